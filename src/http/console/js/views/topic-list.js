// The list of topics: filtered by name as one types.
import { code, empty, h, keyed, panel, setText, swap } from "../dom.js";
import { bytes, compact, whole } from "../format.js";
import { resource } from "../resources.js";

const EVERY_MS = 5000;
const MAX_TOPICS = 1000;

const cell = (className, ...children) => h("td", { class: className }, ...children);

export class TopicList {
  /** `onFilter(text)` hears of each change of the filter. */
  constructor(query, onFilter) {
    this.topics = null;
    this.search = h("input", { type: "search", placeholder: "Topic or stream", "aria-label": "Filter by topic or stream", class: "search", value: query.get("filter") ?? "" });
    this.search.addEventListener("input", () => {
      onFilter(this.search.value.trim());
      this.show();
    });
    this.note = h("p", { class: "panel-note" });
    this.blank = h("div", {});
    this.body = h("tbody", {});
    const heads = [["Topic"], ["Used by", "wider"], ["Policy", "wide"], ["Partitions", "num wide"], ["Records", "num"], ["Size", "num"]];
    this.table = h(
      "table",
      { class: "rows flat" },
      h("caption", { class: "unseen" }, "Topics with partitions, records, size, clean-up policy and use"),
      h("thead", {}, h("tr", {}, ...heads.map(([name, className]) => h("th", { scope: "col", class: className }, name)))),
      this.body,
    );
    this.elements = [h("div", { class: "toolbar" }, this.search), panel("All topics", { aside: this.note }, this.blank, this.table)];
  }

  start() {
    return resource(`/api/v1/topics?limit=${MAX_TOPICS}`, { everyMs: EVERY_MS }).subscribe(({ data, error }) => {
      this.topics = data?.topics ?? this.topics;
      this.total = data?.total ?? this.total;
      this.error = error;
      this.show();
    });
  }

  show() {
    const text = this.search.value.trim().toLowerCase();
    const all = this.topics ?? [];
    const shown = all.filter((topic) => `${topic.topic} ${topic.used_by ?? ""}`.toLowerCase().includes(text));
    const state = shown.length > 0 ? "rows" : `${this.topics === null} ${this.error?.kind} ${all.length} ${text}`;
    this.table.hidden = shown.length === 0;
    swap(this.blank, state, () => (shown.length > 0 ? null : this.blankState(text)));
    keyed(this.body, shown, { key: (topic) => topic.topic, make, update });
    const more = this.total > all.length ? `; the console shows the first ${whole(all.length)}` : "";
    setText(this.note, this.topics === null ? "" : `${whole(shown.length)} of ${whole(this.total)}${more}`);
  }

  blankState(text) {
    if (this.topics === null && this.error) return empty("Topics cannot be read now.", this.error.message);
    if (this.topics === null) return empty("Loading topics.");
    if (this.topics.length > 0) return empty("No topic matches.", "The filter is ", code(text), ".");
    return empty("No topics.", code("streamward topics create orders"), " makes one.");
  }
}

function make(topic) {
  const link = h("a", { href: `#/topics/${encodeURIComponent(topic.topic)}` }, topic.topic);
  return h("tr", {}, h("th", { scope: "row", class: "name" }, link), cell("wider"), cell("wide"), cell("num wide"), cell("num"), cell("num"));
}

function update(row, topic) {
  const texts = [topic.used_by ?? "–", topic.cleanup_policy ?? "–", whole(topic.partitions.length), compact(topic.records), bytes(topic.bytes)];
  texts.forEach((text, at) => setText(row.children[at + 1], text));
}
