// The supervision tree as a treegrid: arrow keys move and fold, one row is in the tab order, the chosen actor is shown beside it.
import { h, keyed } from "../dom.js";
import { COLUMNS } from "./tree-columns.js";

const FLASH_MS = 6000;
/** What within a row takes keys itself. */
const INNER = "a, button";

export class TreeGrid {
  /** `onShow(node, parent)` hears of the chosen actor at each update, `onChoose(path)` of a choice, `onDetails()` of the wish to see more of it. */
  constructor({ onShow, onChoose, onDetails, chosen = null }) {
    this.onShow = onShow;
    this.onChoose = onChoose;
    this.onDetails = onDetails;
    this.folded = new Set();
    this.restarts = new Map();
    this.flashes = new Map();
    this.cells = new WeakMap();
    this.chosen = chosen;
    this.rows = [];
    this.body = h("tbody", { role: "rowgroup" });
    const heads = COLUMNS.map(({ name, className, title }) => h("th", { role: "columnheader", scope: "col", class: className, title }, name));
    this.element = h(
      "table",
      { class: "rows tree", role: "treegrid", "aria-label": "Supervision tree", onkeydown: (event) => this.key(event) },
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ...heads)),
      this.body,
    );
  }

  show(answer) {
    this.answer = answer;
    this.rows = [];
    this.collect(answer, { level: 1, index: 0, size: 1, parent: null });
    if (!this.row(this.chosen)) this.chosen = this.rows[0]?.node.path ?? null;
    keyed(this.body, this.rows, { key: ({ node }) => node.path, make: (row) => this.makeRow(row), update: (element, row) => this.updateRow(element, row) });
    const chosen = this.row(this.chosen);
    this.onShow(chosen?.node ?? null, this.row(chosen?.parent)?.node ?? null);
  }

  row(path) {
    return this.rows.find(({ node }) => node.path === path);
  }

  collect(node, { level, index, size, parent }) {
    const children = node.children ?? [];
    this.noteRestarts(node);
    this.rows.push({ node, level, index, size, parent, foldable: children.length > 0 });
    if (this.folded.has(node.path)) return;
    children.forEach((child, at) => this.collect(child, { level: level + 1, index: at, size: children.length, parent: node.path }));
  }

  noteRestarts(node) {
    const before = this.restarts.get(node.path);
    if (before !== undefined && node.restarts > before) this.flashes.set(node.path, { until: Date.now() + FLASH_MS, by: node.restarts - before });
    this.restarts.set(node.path, node.restarts ?? 0);
  }

  /** By how much an actor's restarts rose just now. */
  restartsBy(path) {
    const flash = this.flashes.get(path);
    if (flash && flash.until > Date.now()) return flash.by;
    this.flashes.delete(path);
    return 0;
  }

  makeRow({ node, level }) {
    const { path } = node;
    const context = {
      node,
      fold: (event) => {
        if (!this.row(path).foldable) return;
        // The row would be chosen, too.
        event.stopPropagation();
        this.fold(path);
      },
      onDetails: this.onDetails,
      onFollow: (target) => this.reveal(target),
      restartsBy: () => this.restartsBy(path),
    };
    const cells = COLUMNS.map((column) => {
      const { content, update } = column.make(context);
      return { cell: h("td", { role: "gridcell", class: column.className }, content), update };
    });
    const choose = () => this.choose(path);
    const element = h("tr", { role: "row", tabindex: "-1", class: `level-${Math.min(level, 7)}`, onclick: choose, onfocus: choose }, ...cells.map(({ cell }) => cell));
    this.cells.set(element, cells);
    return element;
  }

  updateRow(element, { node, level, index, size, foldable }) {
    const isChosen = node.path === this.chosen;
    setRowState(element, { level, index, size, expanded: foldable ? !this.folded.has(node.path) : null, chosen: isChosen });
    element.classList.toggle("flash", this.restartsBy(node.path) > 0);
    element.classList.toggle("leaf", !foldable);
    for (const { cell, update } of this.cells.get(element)) update(node, cell);
    // One row is in the tab order, and what is in it.
    for (const link of element.querySelectorAll(INNER)) link.tabIndex = isChosen ? 0 : -1;
  }

  choose(path) {
    if (this.chosen === path) return;
    this.chosen = path;
    this.onChoose(path);
    this.show(this.answer);
  }

  /** Puts the focus on the chosen row. */
  focus() {
    this.body.keyedChildren?.get(this.chosen)?.focus();
  }

  /** Chooses an actor from elsewhere on the page: unfolds what hides it, and brings it into sight. */
  reveal(path) {
    for (const above of ancestors(path)) this.folded.delete(above);
    this.choose(path);
    this.show(this.answer);
    this.focus();
  }

  fold(path) {
    if (this.folded.has(path)) this.folded.delete(path);
    else this.folded.add(path);
    if (this.isHidden(this.chosen)) this.choose(path);
    else this.show(this.answer);
  }

  /** Whether an actor above it is folded. */
  isHidden(path) {
    return ancestors(path).some((above) => this.folded.has(above));
  }

  key(event) {
    const at = this.rows.findIndex(({ node }) => node.path === this.chosen);
    if (at < 0 || event.altKey || event.ctrlKey || event.metaKey || event.target.closest(INNER)) return;
    const { node, foldable, parent } = this.rows[at];
    const closed = this.folded.has(node.path);
    const moves = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: this.rows.length - 1 };
    if (event.key in moves) this.moveTo(moves[event.key]);
    else if (event.key === "ArrowRight" && foldable) closed ? this.fold(node.path) : this.moveTo(at + 1);
    else if (event.key === "ArrowLeft" && foldable && !closed) this.fold(node.path);
    else if (event.key === "ArrowLeft" && parent !== null) this.moveTo(this.rows.findIndex((row) => row.node.path === parent));
    else if ((event.key === "Enter" || event.key === " ") && foldable) this.fold(node.path);
    else return;
    event.preventDefault();
  }

  moveTo(at) {
    const row = this.rows[Math.min(Math.max(at, 0), this.rows.length - 1)];
    this.choose(row.node.path);
    this.focus();
  }
}

/** The paths of all above an actor, the root's first. */
function ancestors(path) {
  const parts = path === "/" ? [] : path.split("/");
  return parts.map((_, length) => parts.slice(0, length).join("/") || "/");
}

function setRowState(element, { level, index, size, expanded, chosen }) {
  const states = { "aria-level": level, "aria-posinset": index + 1, "aria-setsize": size, "aria-selected": chosen, "aria-expanded": expanded };
  for (const [name, value] of Object.entries(states)) {
    if (value === null) element.removeAttribute(name);
    else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
  }
  element.tabIndex = chosen ? 0 : -1;
}
