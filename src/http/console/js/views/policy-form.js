// How an actor is looked after, to be changed while it runs. Only values that differ are sent.
import { call } from "../api.js";
import { hindrance } from "../caller.js";
import { h, setText } from "../dom.js";
import { tree } from "../resources.js";
import { apiPath } from "./actor-commands.js";
import { say } from "./said.js";

const RESTARTS = ["permanent", "transient", "temporary"];
const STRATEGIES = ["one-for-one", "one-for-all", "rest-for-one"];

/** `[key, label, what it takes]`: a list of choices, "time", "time or never" or "number". */
const OF_ALL = [
  ["restart", "Restart", RESTARTS],
  ["backoff.first", "First delay", "time"],
  ["backoff.min", "Second delay", "time"],
  ["backoff.max", "Longest delay", "time"],
  ["backoff.factor", "Growth of the delay", "number"],
  ["backoff.jitter", "Random share of it", "number"],
  ["backoff.reset_after", "Healthy again after", "time"],
  ["stop_within", "Stops within", "time"],
  ["stuck_after", "Stuck after", "time or never"],
  ["no_progress_after", "Standstill after", "time or never"],
  ["max_zombies", "Most fenced incarnations", "number"],
];
const OF_SUPERVISORS = [
  ["strategy", "Restarts together", STRATEGIES],
  ["intensity.max_restarts", "Most restarts", "number"],
  ["intensity.within", "within", "time"],
  ["max_children", "Most children", "number"],
];
const CHOICE_TEXTS = { transient: "transient (failures)", temporary: "temporary (never)" };

const at = (value, key) => key.split(".").reduce((part, name) => part?.[name], value);
/** Whether a server knows this value of an actor: supervisors alone have some, and older servers lack others. */
const has = (policy, key) => at(policy, key) !== undefined;
const asText = (value) => (value === null || value === undefined ? "" : String(value));

const policyOf = ({ policy, strategy, intensity, max_children }) => (strategy ? { ...policy, strategy, intensity, max_children } : policy);

export class PolicyForm {
  constructor(node) {
    this.path = node.path;
    const policy = policyOf(node);
    const keys = [...OF_ALL, ...OF_SUPERVISORS].filter(([key]) => has(policy, key));
    this.fields = keys.map(([key, label, takes]) => new Field({ key, label, takes, onInput: () => this.paint() }));
    this.button = h("button", { type: "submit", class: "tool" }, "Save");
    this.undo = h("button", { type: "button", class: "tool", onclick: () => this.reset() }, "Undo");
    this.why = h("p", { class: "sub" });
    this.said = h("p", { class: "said", role: "status" });
    const submit = (event) => {
      event.preventDefault();
      this.save();
    };
    this.element = h(
      "details",
      { class: "fold-part" },
      h("summary", {}, "Policy"),
      h("p", { class: "sub" }, "Times as ", h("code", {}, "250ms"), " or ", h("code", {}, "1m30s"), ". Changes hold until the next start of the server, which reads the configuration."),
      h("form", { class: "form", "aria-label": "Policy", onsubmit: submit, novalidate: true }, ...this.fields.map(({ element }) => element), h("div", { class: "acts" }, this.button, this.undo)),
      this.why,
      this.said,
    );
    this.show(node);
  }

  show(node) {
    const policy = policyOf(node);
    for (const field of this.fields) field.show(at(policy, field.key));
    this.paint();
  }

  changed() {
    return this.fields.filter((field) => field.isChanged());
  }

  paint() {
    const count = this.changed().length;
    const reason = hindrance("admin");
    for (const field of this.fields) field.control.disabled = Boolean(reason);
    this.button.disabled = Boolean(reason) || count === 0 || this.isBusy;
    this.undo.hidden = count === 0;
    setText(this.button, count > 1 ? `Save ${count} changes` : "Save");
    setText(this.why, reason ?? "");
  }

  reset() {
    for (const field of this.fields) field.reset();
    say(this.said, "", "");
    this.paint();
  }

  /** The changed values, nested as the API takes them. */
  patch(changed) {
    const patch = {};
    for (const field of changed) {
      const parts = field.key.split(".");
      const last = parts.pop();
      const within = parts.reduce((part, name) => (part[name] ??= {}), patch);
      within[last] = field.value();
    }
    return patch;
  }

  async save() {
    const changed = this.changed();
    if (changed.length === 0) return;
    this.isBusy = true;
    for (const field of this.fields) field.complain("");
    say(this.said, "", "Saving.");
    try {
      const node = await call("PATCH", apiPath(this.path, "policy"), this.patch(changed));
      for (const field of changed) field.settle();
      this.show(node);
      say(this.said, "good", `Saved: ${changed.map(({ key }) => key).join(", ")}.`);
      tree.load();
    } catch (error) {
      this.refused(error);
    }
    this.isBusy = false;
    this.paint();
  }

  refused(error) {
    const known = error.faults.map(({ field: name, message }) => ({ field: this.fields.find(({ key }) => key === name), message })).filter(({ field }) => field);
    for (const { field, message } of known) field.complain(message);
    known[0]?.field.control.focus();
    say(this.said, "bad", known.length > 0 ? "Nothing was changed." : error.message);
  }
}

/** One value: `shown` is what the server has, the control what is wanted. */
class Field {
  constructor({ key, label, takes, onInput }) {
    this.key = key;
    this.takes = takes;
    this.shown = "";
    const id = `policy-${key.replaceAll(/\W/g, "-")}`;
    const common = { id, name: key, "aria-describedby": `${id}-fault`, oninput: onInput };
    this.control = Array.isArray(takes)
      ? h("select", common, ...takes.map((choice) => h("option", { value: choice }, CHOICE_TEXTS[choice] ?? choice)))
      : h("input", { ...common, autocomplete: "off", spellcheck: "false", inputmode: takes === "number" ? "decimal" : null, placeholder: takes === "time or never" ? "never" : null });
    this.fault = h("p", { class: "fault", id: `${id}-fault` });
    this.element = h("div", { class: "field" }, h("label", { for: id }, label), this.control, this.fault);
  }

  /** Takes the server's value; one that is being changed stays as it is. */
  show(value) {
    const next = asText(value);
    if (!this.isChanged()) this.control.value = next;
    this.shown = next;
  }

  isChanged() {
    return this.control.value.trim() !== this.shown;
  }

  /** The server took it: what it says next is shown. */
  settle() {
    this.shown = this.control.value.trim();
  }

  reset() {
    this.control.value = this.shown;
    this.complain("");
  }

  /** As JSON. A text that is no number is sent as it is, for the server to refuse. */
  value() {
    const text = this.control.value.trim();
    if (this.takes === "time or never" && text === "") return null;
    return this.takes === "number" && text !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
  }

  complain(message) {
    setText(this.fault, message);
    if (message) this.control.setAttribute("aria-invalid", "true");
    else this.control.removeAttribute("aria-invalid");
  }
}
