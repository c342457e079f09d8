// A topic's records: newest first or from a place on, filtered, page by page; "Follow" shows what is written meanwhile.
import { get } from "../api.js";
import { badge, code, empty, h, icon, panel, setText, swap } from "../dom.js";
import { ExpandableTable } from "../expandable.js";
import { bytes, fromBase64, hexDump, NONE, whole } from "../format.js";
import { setTime, timeElement, timeOf } from "../times.js";
import { facts, json } from "./facts.js";
import { partitionOptions } from "./topic-produce.js";

const PAGE = 50;
const MAX_ROWS = 500;
const FOLLOW_EVERY_MS = 1500;
const PREVIEW = 300;

const cell = (className, ...children) => h("td", { class: className }, ...children);

const field = (label, control) => h("label", { class: "field" }, label, control);

export class RecordBrowser {
  /** `isPaused()` says whether following rests; `remember(wanted)` hears what is asked for. */
  constructor(topic, query, { isPaused, remember }) {
    this.path = `/api/v1/topics/${encodeURIComponent(topic)}/records`;
    this.isPaused = isPaused;
    this.remember = remember;
    this.records = [];
    this.asked = 0;
    this.timer = null;
    this.table = makeTable();
    this.note = h("p", { class: "panel-note" });
    this.blank = h("div", {});
    this.more = h("button", { type: "button", class: "tool", onclick: () => this.readOn() }, "Show older");
    this.followButton = h("button", { type: "button", class: "tool", "aria-pressed": "false", onclick: () => this.setFollowing(!this.following) }, icon("play"), "Follow");
    this.makeForm(query);
    this.element = panel("Records", { aside: this.note }, this.form, this.blank, this.table.element, h("div", { class: "panel-foot" }, this.more));
  }

  makeForm(query) {
    const value = (name) => query.get(name) ?? "";
    this.partition = h("select", { name: "partition" }, ...partitionOptions("All", []));
    this.wantedPartition = value("partition");
    const options = [["newest", "Newest first"], ["oldest", "Oldest first"], ["offset", "From an offset"], ["time", "From a time"]];
    const start = ["offset", "time"].find((name) => query.has(name)) ?? (value("order") === "oldest" ? "oldest" : "newest");
    this.order = h("select", { name: "start" }, ...options.map(([name, text]) => h("option", { value: name, selected: name === start }, text)));
    this.place = h("input", { name: "place", autocomplete: "off", value: value("offset") || value("time") });
    this.placeField = field("Offset", this.place);
    this.key = h("input", { name: "key", autocomplete: "off", value: value("key") });
    this.contains = h("input", { name: "contains", autocomplete: "off", value: value("contains") });
    this.order.addEventListener("change", () => this.showPlace());
    const acts = h("div", { class: "acts" }, h("button", { type: "submit", class: "tool" }, "Show"), this.followButton);
    const submit = (event) => {
      event.preventDefault();
      this.reload();
    };
    this.form = h("form", { class: "form", "aria-label": "Which records", onsubmit: submit }, field("Partition", this.partition), field("Order", this.order), this.placeField, field("Key", this.key), field("Contains", this.contains), acts);
    this.showPlace();
  }

  showPlace() {
    const start = this.order.value;
    this.placeField.hidden = start !== "offset" && start !== "time";
    setText(this.placeField.firstChild, start === "time" ? "Time (UTC or with offset)" : "Offset");
    this.place.placeholder = start === "time" ? new Date().toISOString().slice(0, 16) : "0";
  }

  setPartitions(ids) {
    if (this.partition.options.length === ids.length + 1) return;
    const chosen = this.wantedPartition || this.partition.value;
    this.partition.replaceChildren(...partitionOptions("All", ids));
    this.partition.value = ids.map(String).includes(chosen) ? chosen : "";
  }

  start() {
    this.load();
  }

  stop() {
    this.asked += 1;
    clearTimeout(this.timer);
  }

  /** What is asked for, as the API names it. */
  wanted() {
    const start = this.order.value;
    const partition = this.partition.options.length > 1 ? this.partition.value : this.wantedPartition;
    const pairs = [["partition", partition], ["order", start === "oldest" ? "oldest" : ""], [start, this.placeField.hidden ? "" : this.place.value.trim()], ["key", this.key.value], ["contains", this.contains.value]];
    return Object.fromEntries(pairs.filter(([, value]) => value !== ""));
  }

  query(place) {
    const { partition, key, contains } = this.wanted();
    const kept = Object.entries({ partition, key, contains }).filter(([, value]) => value !== undefined);
    return `${this.path}?${new URLSearchParams([["limit", PAGE], ...kept, ...Object.entries(place)])}`;
  }

  reload() {
    this.wantedPartition = this.partition.value;
    this.remember(this.wanted());
    return this.load();
  }

  async load() {
    const turn = (this.asked += 1);
    clearTimeout(this.timer);
    this.isForward = this.order.value !== "newest";
    this.newer = null;
    this.show("loading", []);
    return this.loadPage(turn);
  }

  /** The first page; following tries again where it failed. */
  async loadPage(turn) {
    const { order, offset, time } = this.wanted();
    const place = Object.fromEntries(Object.entries({ order, offset, time }).filter(([, value]) => value !== undefined));
    try {
      const page = await get(this.query(place));
      if (turn !== this.asked) return;
      this.take(page);
      this.show("empty", page.records);
      this.schedule(turn);
    } catch (error) {
      if (turn !== this.asked) return;
      this.error = error;
      this.next = null;
      this.show(error.kind, []);
      this.schedule(turn);
    }
  }

  take(page) {
    this.total = page.total;
    this.looked = (page.scanned.records ?? 0);
    this.next = this.isForward && page.scanned.complete ? null : page.next;
    this.newer = this.isForward ? page.next : page.previous;
  }

  async readOn() {
    const turn = this.asked;
    this.more.disabled = true;
    try {
      const page = await get(this.query({ cursor: this.next }));
      if (turn !== this.asked) return;
      this.next = this.isForward && page.scanned.complete ? null : page.next;
      if (this.isForward) this.newer = page.next;
      this.looked += page.scanned.records;
      this.show("empty", [...this.records, ...page.records].slice(0, MAX_ROWS));
    } catch (error) {
      setText(this.note, `More records cannot be read now (${error.message}).`);
    } finally {
      this.more.disabled = false;
    }
  }

  setFollowing(following) {
    this.following = following;
    this.followButton.setAttribute("aria-pressed", String(following));
    if (!following) return clearTimeout(this.timer);
    if (this.order.value !== "newest") {
      this.order.value = "newest";
      this.showPlace();
      return this.reload();
    }
    return this.schedule(this.asked);
  }

  schedule(turn) {
    clearTimeout(this.timer);
    if (!this.following) return;
    this.timer = setTimeout(() => (this.isPaused() ? this.schedule(turn) : this.follow(turn)), FOLLOW_EVERY_MS);
  }

  /** One bounded page of what was written since; the next poll goes on behind it. */
  async follow(turn) {
    if (!this.newer) return this.loadPage(turn);
    try {
      const page = await get(this.query({ cursor: this.newer }));
      if (turn !== this.asked) return;
      this.newer = page.next;
      this.total = page.total;
      if (page.records.length > 0) this.show("empty", [...page.records.reverse(), ...this.records].slice(0, MAX_ROWS));
    } catch (error) {
      setText(this.note, `New records cannot be read now (${error.message}).`);
    }
    if (turn === this.asked) this.schedule(turn);
  }

  show(state, records) {
    this.records = records;
    const some = records.length > 0;
    this.table.element.hidden = !some;
    swap(this.blank, some ? "rows" : `${state} ${this.error?.message} ${this.next} ${this.looked}`, () => (some ? null : this.blankState(state)));
    this.table.show(records);
    const full = records.length >= MAX_ROWS;
    setText(this.more, this.isForward ? "Show newer" : some ? "Show older" : "Look further back");
    this.more.hidden = state === "loading" || !this.next || full;
    const filtered = this.key.value || this.contains.value;
    const looked = filtered ? `, ${whole(this.looked)} looked at` : "";
    setText(this.note, state === "loading" || !this.total ? "" : `${whole(records.length)} of ${whole(this.total)}${looked}${full ? `; the console shows at most ${MAX_ROWS}` : ""}`);
  }

  blankState(state) {
    if (state === "loading") return empty("Loading records.");
    if (state === "missing") return empty("There is no such topic or partition.", this.error.message);
    if (state === "refused") return empty("These records cannot be asked for.", this.error.message);
    if (state === "unauthorized" || state === "forbidden") return empty("Reading records needs an access token with the role viewer.", this.error.message);
    if (state !== "empty") return empty("Records cannot be read now.", this.error.message);
    if (this.key.value || this.contains.value) return empty("No record matches.", `${whole(this.looked)} records were looked at${this.next ? "; there are more" : ""}.`);
    return empty("No records here.", "Write one below, or with any Kafka client.");
  }
}

function makeTable() {
  return new ExpandableTable({
    caption: "Records of the topic",
    columns: [{ name: "Place" }, { name: "Key", className: "wide" }, { name: "Value" }, { name: "Time", className: "num when" }],
    key: (record) => `${record.partition}/${record.offset}`,
    label: (record) => `record at partition ${record.partition}, offset ${record.offset}`,
    makeCells: (record) => {
      const time = timeElement();
      setTime(time, record.timestamp);
      const cells = [cell("place", `${record.partition} / ${record.offset}`, h("div", { class: "narrow sub" }, brief(record.key))), cell("record-key wide", brief(record.key)), cell("", h("span", { class: "cut" }, brief(record.value))), cell("num when", time)];
      return { cells, update: () => {} };
    },
    detail,
  });
}

/** A key or value in a few words. */
function brief(content) {
  if (content === null) return "null";
  const text = typeof content.data === "string" ? content.data : JSON.stringify(content.data);
  return text.length > PREVIEW ? `${text.slice(0, PREVIEW)}…` : text;
}

function detail(record) {
  const headers = record.headers.map(({ name, value, value_base64: base64 }) => [name, code(value ?? (base64 ? `${base64} (base64)` : "null"))]);
  return [
    facts([
      ["Partition", record.partition],
      ["Offset", record.offset],
      ["Time", record.timestamp ? timeOf(record.timestamp) : NONE],
      ["Size", bytes(record.size)],
      ["Key", record.key ? code(brief(record.key)) : "null"],
      ["Value", record.value ? badge(record.value.format, "info") : "null"],
      ["Schema id", record.value?.schema_id],
    ]),
    h("h3", {}, "Value"),
    valuePart(record.value),
    headers.length > 0 ? h("div", {}, h("h3", {}, "Headers"), facts(headers)) : null,
  ];
}

function valuePart(content) {
  if (content === null) return h("p", { class: "sub" }, "The record has no value (null): in a compacted topic it deletes its key.");
  const note = content.truncated ? h("p", { class: "sub" }, `Only the beginning of ${bytes(content.bytes)}; a page of one record shows up to 4 MiB.`) : null;
  if (content.format === "base64") return h("div", {}, h("pre", { class: "raw hex" }, hexDump(fromBase64(content.data) ?? new Uint8Array())), note);
  if (content.format === "text") return h("div", {}, h("pre", { class: "raw" }, content.data), note);
  return h("div", {}, json(content.data), note);
}
