// Sensors: every sensor with its trace of the last ten minutes; one of them can be drawn into the charts.
import { drawSpark, sparkline } from "../charts.js";
import { badge, choice, empty, h, keyed, panel, setText, swap } from "../dom.js";
import { fixed, measure, NONE, titleCase, whole } from "../format.js";
import { setTime, timeElement } from "../times.js";
import { legend, TypeCharts } from "./type-charts.js";

export const title = "Sensors";

const MAX_ROWS = 150;
const TYPES = [["", "All"], ["temperature", "Temperature"], ["humidity", "Humidity"], ["pressure", "Pressure"]];

export function mount(slot, { readings, isLive }) {
  const view = { type: "", search: "", pinned: null };
  const charts = new TypeCharts({ pinnedName: () => readings.sensors.get(view.pinned)?.sensorId ?? null });
  const table = new SensorTable((key) => {
    view.pinned = view.pinned === key ? null : key;
    redraw();
  });
  const search = h("input", { type: "search", placeholder: "Sensor or location", "aria-label": "Filter by sensor or location", class: "search" });
  search.addEventListener("input", () => {
    view.search = search.value.trim().toLowerCase();
    redraw();
  });
  const filter = choice("Sensor type", TYPES, (type) => {
    view.type = type;
    if (type && readings.sensors.get(view.pinned)?.type !== type) view.pinned = null;
    redraw();
  });
  slot.append(
    h("div", { class: "toolbar" }, filter, search, legend()),
    h("section", { class: "block", "aria-label": "Charts" }, charts.element),
    panel("All sensors", { aside: table.note }, table.element),
  );

  function redraw() {
    const pinned = readings.sensors.get(view.pinned);
    const types = pinned ? [pinned.type] : view.type ? [view.type] : undefined;
    charts.draw(readings, { live: isLive(), types, sensorKey: view.pinned });
    table.draw(readings, view);
  }
  return { redraw, unmount: () => charts.destroy() };
}

class SensorTable {
  constructor(onPick) {
    this.onPick = onPick;
    this.note = h("p", { class: "panel-note" });
    this.body = h("tbody", {});
    this.blank = h("div", {});
    const heads = [["Sensor"], ["Type", "wide"], ["Value", "num"], ["Last 10 minutes"], ["Anomalies", "num"], ["Location", "wide"], ["Battery", "num wider"], ["Signal", "num wider"], ["Seen", "num wide"]];
    this.table = h(
      "table",
      { class: "rows flat" },
      h("caption", { class: "unseen" }, "Sensors with their newest value; choose one to draw it into its chart"),
      h("thead", {}, h("tr", {}, ...heads.map(([name, className]) => h("th", { scope: "col", class: className }, name)))),
      this.body,
    );
    this.element = h("div", {}, this.blank, this.table);
  }

  draw(readings, view) {
    const all = [...readings.sensors.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
    const fits = (sensor) => (!view.type || sensor.type === view.type) && `${sensor.sensorId} ${sensor.last.location}`.toLowerCase().includes(view.search);
    const found = all.filter(fits);
    this.table.hidden = found.length === 0;
    const reason = found.length > 0 ? "rows" : all.length > 0 ? "filtered" : "none";
    swap(this.blank, reason, () => BLANK[reason]());
    setText(this.note, found.length > MAX_ROWS ? `${MAX_ROWS} of ${whole(found.length)} shown` : `${whole(found.length)} shown`);
    keyed(this.body, found.slice(0, MAX_ROWS), {
      key: (sensor) => sensor.key,
      make: (sensor) => this.makeRow(sensor),
      update: (row, sensor) => updateRow(row, sensor, readings, view.pinned === sensor.key),
    });
  }

  makeRow(sensor) {
    const pick = h("button", { type: "button", class: "pick", "aria-pressed": "false", onclick: () => this.onPick(sensor.key) }, sensor.sensorId, h("span", { class: "sub narrow" }, titleCase(sensor.type)));
    const cell = (className, child = "") => h("td", { class: className }, child);
    return h(
      "tr",
      {},
      h("th", { scope: "row", class: "name" }, pick),
      cell("wide", titleCase(sensor.type)),
      cell("num"),
      cell("trace", sparkline()),
      cell("num"),
      cell("wide"),
      cell("num wider"),
      cell("num wider"),
      cell("num wide", timeElement()),
    );
  }
}

const BLANK = {
  rows: () => null,
  none: () => empty("No sensors yet.", "A sensor appears here with its first reading."),
  filtered: () => empty("No sensor matches.", "Change the type or the text above."),
};

function updateRow(row, sensor, readings, pinned) {
  const [name, , value, trace, anomalies, location, battery, signal, seen] = row.children;
  const { last } = sensor;
  name.firstChild.setAttribute("aria-pressed", String(pinned));
  row.classList.toggle("chosen", pinned);
  setText(value, measure(sensor.type, last.value));
  value.classList.toggle("odd", last.anomaly === true);
  drawSpark(trace.firstChild, readings.trace(sensor));
  if (anomalies.dataset.count !== String(sensor.anomalies)) {
    anomalies.dataset.count = String(sensor.anomalies);
    anomalies.replaceChildren(sensor.anomalies > 0 ? badge(whole(sensor.anomalies), "warn") : "0");
  }
  setText(location, last.location ?? NONE);
  setText(battery, percent(last.battery_level ?? last.metadata?.battery_level));
  setText(signal, decibels(last.signal_strength ?? last.metadata?.signal_strength));
  setTime(seen.firstChild, last.timestamp);
}

const percent = (value) => (typeof value === "number" ? `${fixed(value, 0)} %` : NONE);
const decibels = (value) => (typeof value === "number" ? `${fixed(value, 0)} dBm` : NONE);
