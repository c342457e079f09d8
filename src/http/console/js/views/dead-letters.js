// Dead letters: records that could not be processed, with the bytes as they came.
import { badge, breakable, code, empty, h, panel, setBadge } from "../dom.js";
import { ExpandableTable } from "../expandable.js";
import { fromBase64, headerText, hexDump, whole } from "../format.js";
import { streams } from "../resources.js";
import { setTime, timeElement, timeOf } from "../times.js";
import { facts, json } from "./facts.js";
import { PagedList } from "./paged-list.js";

export const title = "Dead letters";

const STATE_TONES = { quarantined: "bad", pending: "warn", retrying: "warn", redriven: "good", discarded: "quiet" };

/** Parameters of the address that narrow the list, as the API names them. */
const FILTERS = ["topic", "partition", "offset"];

export function mount(slot, { query }) {
  const wanted = FILTERS.filter((name) => query.has(name)).map((name) => [name, query.get(name)]);
  const table = new ExpandableTable({
    caption: "Dead letters, newest first",
    columns: [{ name: "Reason" }, { name: "Origin", className: "wide" }, { name: "Stage", className: "wider" }, { name: "State" }, { name: "Time", className: "num when" }],
    key: (letter) => String(letter.id),
    label: (letter) => `dead letter ${letter.topic}, partition ${letter.partition}, offset ${letter.offset}`,
    makeCells,
    detail,
  });
  const list = new PagedList({ plural: "dead_letters", key: (letter) => String(letter.id), table, blank: (state) => blank(state, wanted.length > 0) });
  if (wanted.length > 0) slot.append(h("p", { class: "toolbar back" }, h("a", { href: "#/dead-letters" }, "All dead letters"), h("span", { class: "panel-note" }, `Only of ${wanted.map(([name, value]) => `${name} ${value}`).join(", ")}`)));
  slot.append(panel("Dead letters, newest first", { aside: list.note }, list.element));
  list.open(`/api/v1/dead-letters?${new URLSearchParams([["limit", 50], ...wanted])}`);
  return { unmount: () => list.close() };
}

function makeCells(letter) {
  const state = badge("");
  const time = timeElement();
  const cell = (className, ...children) => h("td", { class: className }, ...children);
  const update = (next) => {
    setBadge(state, next.state ?? "stored", STATE_TONES[next.state] ?? "quiet");
    setTime(time, next.created_at);
  };
  const cells = [
    cell("", h("span", { class: "strong" }, ...breakable(letter.class)), h("span", { class: "sub" }, letter.reason)),
    cell("wide", letter.topic, h("span", { class: "sub" }, `partition ${letter.partition}, offset ${letter.offset}`)),
    cell("wider", letter.stage ?? "–"),
    cell("fit", state),
    cell("num when", time),
  ];
  return { cells, update };
}

function detail(letter) {
  const bytes = letter.value_base64 === null || letter.value_base64 === undefined ? null : fromBase64(letter.value_base64);
  return [
    facts([
      ["Topic", letter.topic],
      ["Partition", letter.partition],
      ["Offset", letter.offset],
      ["Key", keyText(letter)],
      ["Stage", letter.stage],
      ["Size", bytes ? `${whole(letter.value_length ?? bytes.length)} bytes` : null],
      ["Set aside", timeOf(letter.created_at)],
      ["Dead-letter topic", letter.undeliverable ? `refused it: ${letter.undeliverable}` : null],
    ]),
    h("p", {}, h("span", { class: "strong" }, "Reason: "), letter.reason),
    h("div", { class: "split" }, h("div", {}, h("h3", {}, "Value as it came"), value(letter, bytes), cutNote(letter)), h("div", {}, h("h3", {}, "Decoded"), decoded(letter)), headers(letter)),
  ];
}

function value(letter, bytes) {
  if (typeof letter.value_text === "string") return h("pre", { class: "raw" }, letter.value_text);
  if (bytes && bytes.length > 0) return h("pre", { class: "raw hex" }, hexDump(bytes));
  return h("p", { class: "sub" }, bytes ? "Empty (0 bytes)." : "The record has no value (null).");
}

const keyText = ({ key_text: text, key_base64: base64 }) => (text || base64 ? code(text ?? `${base64} (base64)`) : "none");

const cutNote = (letter) => (letter.value_truncated ? h("p", { class: "sub" }, "Only the beginning; all of it: ", code(`GET /api/v1/dead-letters/${letter.id}`)) : null);

const decoded = (letter) => (letter.decoded ? json(letter.decoded) : h("p", { class: "sub" }, "It could not be decoded, not even in part."));

function headers(letter) {
  const all = letter.headers ?? [];
  if (all.length === 0) return null;
  return h("div", {}, h("h3", {}, "Headers"), facts(all.map(({ name, value }) => [headerText(name), code(value === null ? "null" : headerText(value))])));
}

function blank(state, isNarrowed) {
  if (state === "loading") return empty("Loading dead letters.");
  if (state === "missing") return empty("This server has no dead-letters route.", "It may be older than this page: reload after an update.");
  if (state === "failed") return empty("Dead letters cannot be read now.", "They appear here as soon as the server answers.");
  if (isNarrowed) return empty("No such dead letter.", "The record was processed, is about to be, or its dead letter is past its retention.");
  return empty("No dead letters.", "A record that cannot be decoded or breaks its schema is kept here with its bytes and the reason, and its neighbours go on.", ...example());
}

/** How to make one, on a topic that there is. */
function example() {
  const topic = streams.state.data?.streams[0]?.topic;
  return topic ? [" To see one, produce ", code("not json"), " to the topic ", code(topic), "."] : [];
}
