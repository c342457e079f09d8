// Alerts: what the rules found, newest first: from when to when, under which condition, and by which records.
import { recordAddress } from "../addresses.js";
import { badge, breakable, choice, code, empty, h, panel, setBadge, setText } from "../dom.js";
import { ExpandableTable } from "../expandable.js";
import { severityTone, span, whole } from "../format.js";
import { parseTime, setTime, timeElement, timeOf } from "../times.js";
import { facts, json } from "./facts.js";
import { PagedList } from "./paged-list.js";

export const title = "Alerts";

const NO_KEY = "no key";
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
    columns: [{ name: "Severity" }, { name: "Alert" }, { name: "Source", className: "wide" }, { name: "State", className: "wide" }, { name: "Fired", className: "num when" }],
    key: (alert) => String(alert.alert_id),
    label: (alert) => `alert ${alert.rule} for ${alert.key ?? "no key"}`,
    makeCells,
    detail,
    stage: ({ state }) => state,
  });
}

function makeCells(alert) {
  const severity = badge("");
  const [state, stateBelow] = [badge(""), badge("")];
  const fired = timeElement();
  const lasted = h("span", { class: "sub" });
  const cell = (className, ...children) => h("td", { class: className }, ...children);
  const update = (next) => {
    setBadge(severity, next.severity, severityTone(next.severity));
    for (const shown of [state, stateBelow]) setBadge(shown, next.state, next.state === "firing" ? "bad outline" : "good outline");
    setTime(fired, next.fired?.event_time);
    setText(lasted, lastedText(next));
  };
  const source = `${alert.key ?? NO_KEY} · ${alert.stream}`;
  const cells = [
    cell("fit", severity, h("div", { class: "narrow" }, stateBelow)),
    cell("", h("span", { class: "strong" }, ...breakable(alert.rule)), h("span", { class: "sub" }, headline(alert)), h("span", { class: "sub narrow" }, source)),
    cell("wide", alert.key ?? "–", h("span", { class: "sub" }, alert.stream)),
    cell("fit wide", state),
    cell("num when", fired, lasted),
  ];
  return { cells, update };
}

/** Under which condition it fired; alerts of other makers say it in their own words. */
const headline = ({ condition, fired, message }) => condition ?? fired?.message ?? message;

/** For how long it fired; none while it does. The server ends an alert at no event time, so that span is of its own clock. */
function duration({ fired, resolved }) {
  if (!fired || !resolved) return Number.NaN;
  const clock = resolved.by === "server" ? "created_at" : "event_time";
  return (parseTime(resolved[clock]) - parseTime(fired[clock])) / 1000;
}

function lastedText(alert) {
  const seconds = duration(alert);
  return Number.isFinite(seconds) ? `for ${span(seconds)}` : "";
}

function detail(alert) {
  const { fired, resolved } = alert;
  return [
    facts([
      ["Condition", alert.condition ? code(alert.condition) : null],
      ["Stream", alert.stream],
      ["Key", alert.key ?? NO_KEY],
      ["Fired", fired ? timeOf(fired.event_time) : "not kept"],
      ["Resolved", resolved ? timeOf(resolved.event_time ?? resolved.created_at) : "not yet"],
      ["Lasted", resolved ? span(duration(alert)) : null],
      ["Raised", fired ? timeOf(fired.created_at) : null],
      ["Announced", alert.undeliverable ? `refused: ${alert.undeliverable}` : null],
      ["Alert id", code(String(alert.alert_id))],
    ]),
    h("div", { class: "split" }, h("div", {}, h("h3", {}, "Record that fired it"), record(alert, fired)), h("div", {}, h("h3", {}, "Record that resolved it"), ending(alert))),
  ];
}

function ending(alert) {
  if (!alert.resolved) return h("p", { class: "sub" }, "None yet: it still fires.");
  if (alert.resolved.by === "server") return h("p", { class: "sub" }, `None: ${alert.resolved.message}.`);
  return record(alert, alert.resolved);
}

function record({ topic, partition }, transition) {
  if (!transition?.record) return h("p", { class: "sub" }, "Not kept with this alert.");
  const address = recordAddress({ topic, partition, offset: transition.offset });
  return h("div", {}, json(transition.record), h("p", { class: "links" }, h("a", { href: address }, `Partition ${partition}, offset ${whole(transition.offset)}`)));
}

function blank(state, wanted) {
  if (state === "loading") return empty("Loading alerts.");
  if (state === "missing") return empty("This server has no alerts route.", "It may be older than this page: reload after an update.");
  if (state === "failed") return empty("Alerts cannot be read now.", "They appear here as soon as the server answers.");
  if (wanted) return empty(`No ${wanted} alerts.`, "Choose another state above to see the rest.");
  return empty("No alerts.", "Rules fire when a record meets their condition. Add one under ", code("pipelines.<name>.steps"), " in the configuration, for example ", code("rule: { name: temperature_max, when: \"value > 80\", severity: critical }"), ".");
}
