// The supervision tree as a treegrid: arrow keys move and fold, one row is in the tab order, the chosen actor is shown beside it.
import { badge, h, icon, keyed, setBadge, setText } from "../dom.js";
import { compact, NONE, parseTime, setTime, span, timeElement, whole } from "../format.js";

const FLASH_MS = 6000;
/** An exit younger than this is set off by colour. */
const RECENT_S = 600;
const TONES = {
  running: "good",
  starting: "warn", backing_off: "warn", paused: "warn", degraded: "warn", stopping: "warn",
  failed: "bad",
};

export const toneOf = (state) => TONES[state] ?? "quiet";
export const stateText = (state) => String(state ?? "unknown").replaceAll("_", " ");

const COLUMNS = [["Actor"], ["State"], ["Restarts", "num"], ["Inbox", "num wide"], ["Since", "num wide"], ["Generation", "num wider"], ["In hand", "wider"], ["Processed", "num wider"]];

export class TreeGrid {
  constructor(onChoose) {
    this.onChoose = onChoose;
    this.folded = new Set();
    this.restarts = new Map();
    this.flashes = new Map();
    this.chosen = null;
    this.rows = [];
    this.body = h("tbody", { role: "rowgroup" });
    const heads = COLUMNS.map(([name, className]) => h("th", { role: "columnheader", scope: "col", class: className }, name));
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
    if (!this.rows.some(({ node }) => node.path === this.chosen)) this.chosen = this.rows[0]?.node.path ?? null;
    keyed(this.body, this.rows, { key: ({ node }) => node.path, make: (row) => this.makeRow(row), update: (element, row) => this.updateRow(element, row) });
    this.onChoose(this.rows.find(({ node }) => node.path === this.chosen)?.node ?? null);
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

  makeRow({ node, foldable, level }) {
    const name = node.path.split("/").filter(Boolean).at(-1) ?? "root";
    const fold = h("span", { class: "fold", "aria-hidden": "true", onclick: () => foldable && this.fold(node.path) }, foldable ? icon("chevron") : "");
    const exit = h("span", { class: "sub exit" });
    const label = h("div", { class: "actor" }, fold, h("div", {}, h("span", { class: "strong" }, name), h("span", { class: "kind" }, node.kind && node.kind !== name ? ` ${node.kind}` : ""), exit));
    const cell = (className, child = "") => h("td", { role: "gridcell", class: className }, child);
    return h(
      "tr",
      { role: "row", tabindex: "-1", class: `level-${Math.min(level, 7)}`, onclick: () => this.choose(node.path), onfocus: () => this.choose(node.path) },
      cell("", label),
      cell("fit", badge("")),
      cell("num"),
      cell("num wide"),
      cell("num wide", timeElement()),
      cell("num wider"),
      cell("wider"),
      cell("num wider"),
    );
  }

  updateRow(element, { node, level, index, size, foldable }) {
    const [actor, state, restarts, inbox, since, generation, inHand, processed] = element.children;
    const flash = this.flashes.get(node.path);
    const flashing = flash !== undefined && flash.until > Date.now();
    if (flash && !flashing) this.flashes.delete(node.path);
    setRowState(element, { level, index, size, expanded: foldable ? !this.folded.has(node.path) : null, chosen: node.path === this.chosen });
    element.classList.toggle("flash", flashing);
    showTrouble(actor.querySelector(".exit"), node);
    setBadge(state.firstChild, stateText(node.state), toneOf(node.state));
    setText(restarts, whole(node.restarts ?? 0) + (flashing ? ` (+${flash.by})` : ""));
    restarts.classList.toggle("some", node.restarts > 0);
    setText(generation, whole(node.generation));
    setText(inbox, node.inbox ? `${whole(node.inbox.depth)} / ${whole(node.inbox.capacity)}` : NONE);
    inbox.classList.toggle("odd", node.inbox ? node.inbox.depth > node.inbox.capacity * 0.8 : false);
    setText(inHand, inHandText(node.in_hand));
    setText(processed, compact(node.processed));
    setTime(since.firstChild, node.since, { ago: true });
  }

  choose(path) {
    if (this.chosen === path) return;
    this.chosen = path;
    this.show(this.answer);
  }

  fold(path) {
    if (this.folded.has(path)) this.folded.delete(path);
    else this.folded.add(path);
    this.show(this.answer);
  }

  key(event) {
    const at = this.rows.findIndex(({ node }) => node.path === this.chosen);
    if (at < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
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
    this.body.keyedChildren.get(row.node.path).focus();
  }
}

function setRowState(element, { level, index, size, expanded, chosen }) {
  const states = { "aria-level": level, "aria-posinset": index + 1, "aria-setsize": size, "aria-selected": chosen, "aria-expanded": expanded };
  for (const [name, value] of Object.entries(states)) {
    if (value === null) element.removeAttribute(name);
    else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
  }
  element.tabIndex = chosen ? 0 : -1;
}

/** The line below an actor's name: why it is degraded, else how its last incarnation ended. */
function showTrouble(element, { note, last_exit: exit }) {
  const age = exit ? (Date.now() - parseTime(exit.at)) / 1000 : Number.NaN;
  const ended = exit ? `${exit.reason} ${span(age)} ago${exit.message ? `: ${exit.message}` : ""}` : "";
  setText(element, note ?? ended);
  element.classList.toggle("recent", Boolean(note) || age < RECENT_S);
}

/** What an actor works on, and for how long. */
export const inHandText = (inHand) => (inHand ? `${inHand.label}, ${span(inHand.for_ms / 1000)}` : NONE);
