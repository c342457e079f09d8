// A table whose rows open to a detail below them. It keeps which rows are open across updates.
import { h, icon, keyed } from "./dom.js";

/**
 * `columns`: `[{ name, className }]`; `key(item)`; `makeCells(item)` returns `{cells, update(item)}`, `cells` being `<td>`s;
 * `label(item)` names the row's button; `detail(item)` builds the opened part,
 * again at each update when `liveDetail` is set (only for parts without controls: their focus would be lost), and when
 * `stage(item)` changes.
 */
export class ExpandableTable {
  constructor({ caption, columns, key, makeCells, label, detail, liveDetail = false, stage = () => null }) {
    this.options = { key, makeCells, label, detail, liveDetail, stage };
    this.columns = columns;
    this.open = new Set();
    this.parts = new WeakMap();
    const heads = columns.map(({ name, className }) => h("th", { scope: "col", class: className }, name));
    this.element = h(
      "table",
      { class: "rows" },
      h("caption", { class: "unseen" }, caption),
      h("thead", {}, h("tr", {}, h("th", { scope: "col", class: "opener" }, h("span", { class: "unseen" }, "Details")), ...heads)),
    );
  }

  show(items) {
    keyed(this.element, items, {
      after: this.element.tHead,
      key: this.options.key,
      make: (item) => this.makeBody(item),
      update: (body, item) => this.updateBody(body, item),
    });
  }

  makeBody(item) {
    const id = this.options.key(item);
    // A row that went and comes again is closed.
    this.open.delete(id);
    const detailId = `detail-${Math.random().toString(36).slice(2)}`;
    const button = h("button", { type: "button", class: "open", "aria-expanded": "false", "aria-controls": detailId }, icon("chevron"));
    const { cells, update } = this.options.makeCells(item);
    const slot = h("td", { colspan: this.columns.length + 1 });
    const detailRow = h("tr", { class: "detail", id: detailId, hidden: true }, slot);
    const body = h("tbody", {}, h("tr", {}, h("td", { class: "opener" }, button), ...cells), detailRow);
    const part = { button, update, slot, detailRow, item };
    this.parts.set(body, part);
    button.addEventListener("click", () => this.toggle(id, part));
    return body;
  }

  updateBody(body, item) {
    const part = this.parts.get(body);
    part.item = item;
    part.button.setAttribute("aria-label", `Details of ${this.options.label(item)}`);
    part.update(item);
    const isOld = this.options.liveDetail || part.stage !== this.options.stage(item);
    if (isOld && !part.detailRow.hidden) this.fillDetail(part);
  }

  toggle(id, part) {
    const opening = !this.open.has(id);
    if (opening) this.open.add(id);
    else this.open.delete(id);
    if (opening) this.fillDetail(part);
    else part.slot.replaceChildren();
    part.detailRow.hidden = !opening;
    part.button.setAttribute("aria-expanded", String(opening));
  }

  fillDetail(part) {
    part.stage = this.options.stage(part.item);
    part.slot.replaceChildren(...[this.options.detail(part.item)].flat().filter((child) => child !== null));
  }
}
