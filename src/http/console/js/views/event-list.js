// What happened in the tree lately, in words.
import { badge, choice, code, empty, h, keyed, swap } from "../dom.js";
import { describe } from "../lifecycle.js";
import { timeOf } from "../times.js";

const MAX_SHOWN = 100;

export class EventList {
  constructor() {
    this.list = h("ol", {});
    // Scrolls on its own, so the keyboard must reach it.
    this.frame = h("div", { class: "events", role: "region", "aria-label": "Events", tabindex: "0" }, this.list);
    this.blank = h("div", {});
    this.state = { data: null, error: null };
    this.isNarrow = false;
    this.chosen = null;
    this.which = choice("Which events", [["all", "All"], ["chosen", "Chosen actor"]], (which) => this.narrow(which === "chosen"));
    this.elements = [this.blank, this.frame];
  }

  narrow(isNarrow) {
    this.isNarrow = isNarrow;
    this.draw();
  }

  /** The actor to which, with all below it, the list can be narrowed. */
  choose(path) {
    if (this.chosen === path) return;
    this.chosen = path;
    if (this.isNarrow) this.draw();
  }

  isWanted({ path }) {
    return !this.isNarrow || this.chosen === "/" || path === this.chosen || path.startsWith(`${this.chosen}/`);
  }

  show(state) {
    this.state = state;
    this.draw();
  }

  draw() {
    const { data, error } = this.state;
    const newest = (data?.events ?? []).filter((event) => this.isWanted(event)).slice(-MAX_SHOWN).reverse();
    const state = newest.length > 0 ? "rows" : data ? "none" : error ? error.kind : "loading";
    swap(this.blank, state, () => blankState(state, error));
    this.frame.hidden = newest.length === 0;
    keyed(this.list, newest, { key: (event) => event.seq, make: makeEvent, update: () => {} });
  }
}

function blankState(state, error) {
  if (state === "rows") return null;
  if (state === "none") return empty("No events.", "Starts, exits, restarts and escalations of actors are listed here as they happen.");
  return state === "loading" ? empty("Loading events.") : empty("Events cannot be read now.", error?.message ?? "");
}

function makeEvent(event) {
  const { word, tone, detail } = describe(event);
  return h("li", {}, timeOf(event.at), h("div", {}, badge(word, tone), " ", code(event.path), detail ? h("span", { class: "sub" }, detail) : null));
}
