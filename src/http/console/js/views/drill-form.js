// A fault injected on purpose into the chosen actor, and what became of it.
import { call } from "../api.js";
import { hindrance } from "../caller.js";
import { badge, code, h, setText, swap } from "../dom.js";
import { millis, whole } from "../format.js";
import { isSupervisor, stateText, toneOf } from "../lifecycle.js";
import { resource, tree } from "../resources.js";
import { apiPath } from "./actor-commands.js";
import { say } from "./said.js";

const EVERY_MS = 15_000;
/** The request lasts as long as the drill is watched, and as long as its counts may take to agree. */
const ANSWER_MS = 10_000;
/** What servers know that do not list their faults. */
const FAULTS = [
  { fault: "panic", takes_millis: false, about: "the actor panics" },
  { fault: "error", takes_millis: false, about: "the actor returns an error" },
  { fault: "stall", takes_millis: true, about: "the actor keeps a message in hand" },
];

/** What the server says of itself; asked for while the page is open. */
export const supervision = resource("/api/v1/supervision", { everyMs: EVERY_MS });

/** Faults from outside an actor strike other nodes than the rest, which strikes actors. */
const STRIKES = {
  broker_drop: ({ kind }) => kind === "broker",
  corrupt_record: ({ path }) => /^pipelines\/./.test(path),
};
const strikes = (fault, node) => (STRIKES[fault] ?? ((one) => !isSupervisor(one)))(node);

const field = (label, control) => h("label", { class: "field" }, label, control);
const number = (name, value) => h("input", { name, value, inputmode: "numeric", autocomplete: "off" });

export class DrillForm {
  constructor(node) {
    this.node = node;
    this.fault = h("select", { name: "fault", oninput: () => this.paint() });
    this.times = number("times", "1");
    this.millis = number("millis", "1000");
    this.within = number("within", "30");
    this.millisField = field("For, in ms", this.millis);
    this.about = h("p", { class: "sub" });
    this.button = h("button", { type: "submit", class: "tool" }, "Run drill");
    this.why = h("p", { class: "sub" });
    this.said = h("p", { class: "said", role: "status" });
    this.report = h("div", { role: "status" });
    const submit = (event) => {
      event.preventDefault();
      this.run();
    };
    this.form = h("form", { class: "form", "aria-label": "Drill", onsubmit: submit }, field("Fault", this.fault), field("Times", this.times), this.millisField, field("Watched for, in s", this.within), this.about, h("div", { class: "acts" }, this.button));
    this.off = h("p", { class: "sub" }, "Drills are off. ", code("drills.enabled: true"), " in the configuration switches them on.");
    this.element = h("details", { class: "fold-part drill" }, h("summary", {}, "Drill"), this.off, this.form, this.why, this.said, this.report);
    this.paint();
  }

  paint() {
    const { drills, faults: known = FAULTS } = supervision.state.data ?? {};
    const isOn = drills !== false;
    const faults = known.filter(({ fault }) => strikes(fault, this.node));
    const reason = hindrance("admin");
    swap(this.fault, faults.map(({ fault }) => fault).join(), () => faults.map(({ fault }) => h("option", { value: fault }, stateText(fault))));
    const chosen = faults.find(({ fault }) => fault === this.fault.value);
    this.millisField.hidden = !chosen?.takes_millis;
    this.element.hidden = isOn && faults.length === 0;
    this.off.hidden = isOn;
    this.form.hidden = !isOn;
    setText(this.about, chosen?.about ?? "");
    setText(this.why, isOn ? (reason ?? "") : "");
    this.button.disabled = Boolean(reason) || this.isRunning;
  }

  /** What the API takes; a text that is no number is sent as it is, for the server to refuse. */
  wanted() {
    const read = (input) => (/^\d+$/.test(input.value.trim()) ? Number(input.value) : input.value);
    const wanted = { fault: this.fault.value, times: read(this.times), within_ms: typeof read(this.within) === "number" ? read(this.within) * 1000 : this.within.value };
    return this.millisField.hidden ? wanted : { ...wanted, millis: read(this.millis) };
  }

  async run() {
    const wanted = this.wanted();
    this.isRunning = true;
    this.paint();
    say(this.said, "", "The fault is injected; the actor is watched until it has recovered.");
    try {
      const report = await call("POST", apiPath(this.node.path, "drill"), wanted, { timeoutMs: (Number(wanted.within_ms) || 0) + ANSWER_MS });
      say(this.said, "", "");
      this.report.replaceChildren(reportOf(report, wanted));
      this.report.scrollIntoView({ block: "nearest" });
    } catch (error) {
      say(this.said, "bad", error.message);
    }
    this.isRunning = false;
    this.paint();
    tree.load();
  }
}

function reportOf(report, wanted) {
  const { fault, records, exit } = report;
  const recovered = typeof report.recovered_after_ms === "number";
  const struck = report.point ? `${stateText(fault.fault)} × ${whole(fault.times)}, at “${report.point}”` : `${stateText(fault.fault)}: it has not struck`;
  const figures = [
    ["Detected after", typeof report.detected_after_ms === "number" ? `${millis(report.detected_after_ms)}${exit ? `, as ${stateText(exit.reason)}` : ""}` : "nothing failed"],
    ["Observed", report.observed ?? ""],
    ["Recovered after", recovered ? millis(report.recovered_after_ms) : `not within ${millis(wanted.within_ms)}`, !recovered],
    ["Generation", report.generation_before === report.generation ? whole(report.generation) : `${whole(report.generation_before)} → ${whole(report.generation)}`],
    ...(records ? recordFigures(records) : []),
  ];
  const items = figures.map(([name, value, isOdd]) => h("div", { class: isOdd ? "odd" : null }, h("dt", {}, name), h("dd", {}, value)));
  return h(
    "section",
    { class: "report", "aria-label": "Report of the drill" },
    h("p", {}, badge(recovered ? "recovered" : "not recovered", recovered ? "good" : "bad"), " ", badge(stateText(report.state), toneOf(report.state)), " ", struck),
    h("dl", { class: "figures" }, ...items),
  );
}

const recordFigures = ({ passed, lost, duplicated, reordered }) => [
  ["Records passed", whole(passed)],
  ["Lost", whole(lost), lost > 0],
  ["Duplicated", whole(duplicated), duplicated > 0],
  ["Reordered", whole(reordered), reordered > 0],
];
