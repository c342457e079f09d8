// Alerts: what the rules found, newest first.
import { badge, breakable, choice, code, empty, h, panel, setBadge } from "../dom.js";
import { ExpandableTable } from "../expandable.js";
import { setTime, severityTone, timeElement, timeOf } from "../format.js";
import { facts, json } from "./facts.js";
import { PagedList } from "./paged-list.js";

export const title = "Alerts";

const STATES = [["", "All"], ["firing", "Firing"], ["resolved", "Resolved"]];

export function mount(slot) {
  let wanted = "";
  const list = new PagedList({ plural: "alerts", key: (alert) => String(alert.alert_id), table: makeTable(), blank: (state) => blank(state, wanted) });
  const open = (state) => {
    wanted = state;
    list.open(`/api/v1/alerts?limit=50${state ? `&state=${state}` : ""}`);
  };
  slot.append(h("div", { class: "toolbar" }, choice("State", STATES, open)), panel("Alerts, newest first", { aside: list.note }, list.element));
  open("");
  return { unmount: () => list.close() };
}

function makeTable() {
  return new ExpandableTable({
    caption: "Alerts, newest first",
    columns: [{ name: "Severity" }, { name: "Alert" }, { name: "Source", className: "wide" }, { name: "State", className: "wide" }, { name: "Time", className: "num when" }],
    key: (alert) => String(alert.alert_id),
    label: (alert) => `alert ${alert.rule} for ${alert.key ?? "no key"}`,
    makeCells,
    detail,
  });
}

function makeCells(alert) {
  const severity = badge("");
  const state = badge("");
  const stateBelow = badge("");
  const time = timeElement();
  const cell = (className, ...children) => h("td", { class: className }, ...children);
  const update = (next) => {
    setBadge(severity, next.severity, severityTone(next.severity));
    for (const shown of [state, stateBelow]) setBadge(shown, next.state, next.state === "firing" ? "bad outline" : "good outline");
    setTime(time, next.event_time ?? next.created_at);
  };
  const cells = [
    cell("fit", severity, h("div", { class: "narrow" }, stateBelow)),
    cell("", h("span", { class: "strong" }, ...breakable(alert.rule)), h("span", { class: "sub" }, alert.message ?? "")),
    cell("wide", alert.key ?? "–", h("span", { class: "sub" }, alert.stream)),
    cell("fit wide", state),
    cell("num when", time),
  ];
  return { cells, update };
}

function detail(alert) {
  return [
    facts([
      ["Stream", alert.stream],
      ["Key", alert.key ?? "–"],
      ["Event time", timeOf(alert.event_time)],
      ["Raised", timeOf(alert.created_at)],
      ["Alert id", code(String(alert.alert_id))],
    ]),
    h("h3", {}, "Record that raised it"),
    alert.record ? json(alert.record) : h("p", { class: "sub" }, "Not kept with this alert."),
  ];
}

function blank(state, wanted) {
  if (state === "loading") return empty("Loading alerts.");
  if (state === "missing") return empty("This server has no alerts route.", "It may be older than this page: reload after an update.");
  if (state === "failed") return empty("Alerts cannot be read now.", "They appear here as soon as the server answers.");
  if (wanted) return empty(`No ${wanted} alerts.`, "Choose another state above to see the rest.");
  return empty("No alerts.", "Rules fire when a record meets their condition. Add one under ", code("pipelines.<name>.steps"), " in the configuration, for example ", code("rule: { name: temperature_max, when: \"value > 80\", severity: critical }"), ".");
}
