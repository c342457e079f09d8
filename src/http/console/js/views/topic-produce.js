// Writing one record to a topic.
import { callWith } from "../api.js";
import { h, panel } from "../dom.js";
import { say } from "./said.js";

const FORMATS = [["text", "Text"], ["json", "JSON"], ["avro", "Avro, by a schema"], ["base64", "Bytes, as base64"], ["null", "No value (null)"]];

/** Options of a list of partitions; the first one stands for `none`. */
export const partitionOptions = (none, ids) => [h("option", { value: "" }, none), ...ids.map((id) => h("option", { value: String(id) }, String(id)))];

const field = (label, control, className = "field") => h("label", { class: className }, label, control);

export class ProduceForm {
  /** `onWritten()` hears of each record. */
  constructor(topic, onWritten) {
    this.path = `/api/v1/topics/${encodeURIComponent(topic)}/records`;
    this.onWritten = onWritten;
    this.key = h("input", { name: "key", autocomplete: "off" });
    this.partition = h("select", { name: "partition" }, ...partitionOptions("By key", []));
    this.format = h("select", { name: "format" }, ...FORMATS.map(([value, text]) => h("option", { value }, text)));
    this.subject = h("input", { name: "subject", autocomplete: "off", value: `${topic}-value` });
    this.subjectField = field("Subject", this.subject);
    this.value = h("textarea", { name: "value", rows: "4", spellcheck: "false" });
    this.valueField = field("Value", this.value, "field broad");
    this.headers = h("textarea", { name: "headers", rows: "2", spellcheck: "false", placeholder: "name: value" });
    this.button = h("button", { type: "submit", class: "tool" }, "Write record");
    this.said = h("p", { class: "said", role: "status" });
    this.format.addEventListener("change", () => this.showFields());
    this.showFields();
    const submit = (event) => {
      event.preventDefault();
      this.write();
    };
    const form = h("form", { class: "form", "aria-label": "Record to write", onsubmit: submit }, field("Key", this.key), field("Partition", this.partition), field("Value is", this.format), this.subjectField, this.valueField, field("Headers, one a line", this.headers, "field broad"), h("div", { class: "acts" }, this.button));
    this.element = panel("Write a record", {}, form, this.said);
  }

  showFields() {
    this.subjectField.hidden = this.format.value !== "avro";
    this.valueField.hidden = this.format.value === "null";
  }

  setPartitions(ids) {
    if (this.partition.options.length !== ids.length + 1) this.partition.replaceChildren(...partitionOptions("By key", ids));
  }

  /** The record as JSON text that the API takes; throws a sentence where a field is wrong. */
  record() {
    const record = { headers: this.headerList() };
    if (this.key.value !== "") record.key = this.key.value;
    if (this.partition.value !== "") record.partition = Number(this.partition.value);
    return `{"value":${this.content()},${JSON.stringify(record).slice(1)}`;
  }

  /** The value as JSON text. JSON that was given stays as it is: read and written again, integers beyond 2^53 would be others. */
  content() {
    const text = this.value.value;
    if (this.format.value === "null") return "null";
    if (this.format.value === "text") return JSON.stringify({ text });
    if (this.format.value === "base64") return JSON.stringify({ base64: text.trim() });
    const subject = this.format.value === "avro" ? `,"subject":${JSON.stringify(this.subject.value.trim())}` : "";
    return `{"json":${checked(text)}${subject}}`;
  }

  headerList() {
    const lines = this.headers.value.split("\n").filter((line) => line.trim() !== "");
    return lines.map((line) => {
      const at = line.indexOf(":");
      if (at < 1) throw new Error(`A header is "name: value", not "${line}".`);
      return { name: line.slice(0, at).trim(), value: line.slice(at + 1).trim() };
    });
  }

  async write() {
    this.button.disabled = true;
    say(this.said, "", "Writing.");
    try {
      const { partition, offset } = await callWith("POST", this.path, this.record());
      say(this.said, "good", `Written to partition ${partition}, offset ${offset}.`);
      this.onWritten();
    } catch (error) {
      say(this.said, "bad", error.kind === "forbidden" ? "Writing needs an access token with the role operator." : error.message);
    }
    this.button.disabled = false;
  }
}

function checked(text) {
  try {
    JSON.parse(text);
    return text;
  } catch (error) {
    throw new Error(`The value is no JSON: ${error.message}`);
  }
}
