// A list of the API that is polled at its head and read on by cursor: new rows come in on top, older ones on request.
import { get } from "../api.js";
import { h, setText, swap } from "../dom.js";
import { whole } from "../format.js";
import { resource } from "../resources.js";

const MAX_ROWS = 500;

/**
 * `path` has a query already; `plural` names the list in the answer; `key(item)`; `table` has `show(items)` and `element`;
 * `blank(state)` builds the empty state, state being loading, failed, missing or empty.
 */
export class PagedList {
  constructor({ plural, key, table, blank }) {
    this.options = { plural, key, table, blank };
    this.stop = () => {};
    this.blank = h("div", {});
    this.note = h("p", { class: "panel-note" });
    this.button = h("button", { type: "button", class: "tool", onclick: () => this.readOn() }, "Show older");
    this.element = h("div", {}, this.blank, table.element, h("div", { class: "panel-foot" }, this.button));
  }

  open(path) {
    this.close();
    this.path = path;
    this.items = [];
    this.next = null;
    this.readFurther = false;
    this.stop = resource(path).subscribe((state) => this.receive(state));
  }

  close() {
    this.stop();
  }

  receive({ data, error }) {
    if (data) {
      const head = data[this.options.plural] ?? [];
      const known = new Set(head.map(this.options.key));
      const older = this.readFurther ? this.items.filter((item) => !known.has(this.options.key(item))) : [];
      this.items = [...head, ...older].slice(0, MAX_ROWS);
      this.total = `${data.total_is_estimate ? "about " : ""}${whole(data.total)}`;
      if (!this.readFurther) this.next = data.next ?? null;
    }
    this.show(data ? "empty" : error ? (error.kind === "missing" ? "missing" : "failed") : "loading");
  }

  async readOn() {
    this.button.disabled = true;
    try {
      const page = await get(`${this.path}&cursor=${encodeURIComponent(this.next)}`);
      const known = new Set(this.items.map(this.options.key));
      const older = (page[this.options.plural] ?? []).filter((item) => !known.has(this.options.key(item)));
      this.items = [...this.items, ...older].slice(0, MAX_ROWS);
      this.next = page.next ?? null;
      this.readFurther = true;
      this.show("empty");
    } catch (error) {
      setText(this.note, `Older rows cannot be read now (${error.message}).`);
    }
    this.button.disabled = false;
  }

  show(state) {
    const some = this.items.length > 0;
    this.options.table.element.hidden = !some;
    swap(this.blank, some ? "rows" : state, () => (some ? null : this.options.blank(state)));
    this.options.table.show(this.items);
    this.button.hidden = !some || this.next === null || this.items.length >= MAX_ROWS;
    const full = this.items.length >= MAX_ROWS ? `; the console shows at most ${MAX_ROWS}` : "";
    setText(this.note, some ? `${whole(this.items.length)} of ${this.total}${full}` : "");
  }
}
