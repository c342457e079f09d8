// The newest value of each sensor, one row per sensor and one column per type.
import { empty, h, keyed, setText, swap } from "../dom.js";
import { byType, digitsOf, fixed, NONE, titleCase, unitOf } from "../format.js";
import { setTime, timeElement } from "../times.js";

const MAX_ROWS = 12;

export class LatestTable {
  constructor() {
    this.blank = h("div", {});
    this.head = h("tr", {});
    this.body = h("tbody", {});
    this.table = h("table", { class: "rows flat" }, h("caption", { class: "unseen" }, "Latest value of each sensor"), h("thead", {}, this.head), this.body);
    this.more = h("p", { class: "panel-note under" });
    this.element = h("div", {}, this.blank, this.table, this.more);
  }

  draw(readings) {
    const types = [...readings.types.keys()].sort(byType);
    const bySensor = [...Map.groupBy(readings.sensors.values(), (sensor) => sensor.sensorId)].sort(([a], [b]) => (a < b ? -1 : 1));
    this.table.hidden = bySensor.length === 0;
    swap(this.blank, String(bySensor.length === 0), () => (bySensor.length === 0 ? empty("No values yet.", "Each sensor gets a row with its first reading.") : null));
    swap(this.head, types.join(), () => headCells(types));
    keyed(this.body, bySensor.slice(0, MAX_ROWS), {
      key: ([id]) => `${id} ${types}`,
      make: ([id]) => makeRow(id, types),
      update: (row, [, sensors]) => updateRow(row, sensors, types),
    });
    this.more.hidden = bySensor.length <= MAX_ROWS;
    setText(this.more, `The first ${MAX_ROWS} of ${bySensor.length} sensors.`);
  }
}

const headCells = (types) => [
  h("th", { scope: "col" }, "Sensor"),
  ...types.map((type) => h("th", { scope: "col", class: "num" }, titleCase(type), unitOf(type) ? h("span", { class: "unit" }, ` ${unitOf(type)}`) : "")),
  h("th", { scope: "col", class: "wider" }, "Location"),
  h("th", { scope: "col", class: "num wide" }, "Seen"),
];

function makeRow(id, types) {
  const cells = types.map(() => h("td", { class: "num" }));
  const row = h("tr", {}, h("th", { scope: "row", class: "name" }, id), ...cells, h("td", { class: "wider" }), h("td", { class: "num wide" }, timeElement()));
  return row;
}

function updateRow(row, sensors, types) {
  types.forEach((type, index) => {
    const cell = row.children[index + 1];
    const last = sensors.find((sensor) => sensor.type === type)?.last;
    setText(cell, last ? fixed(last.value, digitsOf(type)) + (last.anomaly ? " !" : "") : NONE);
    cell.classList.toggle("odd", last?.anomaly === true);
    if (last?.anomaly) cell.title = "Marked as an anomaly";
    else cell.removeAttribute("title");
  });
  const newest = sensors.reduce((a, b) => (b.time > a.time ? b : a));
  setText(row.children[types.length + 1], newest.last.location ?? NONE);
  setTime(row.children[types.length + 2].firstChild, newest.last.timestamp);
}
