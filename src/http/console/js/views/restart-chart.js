// The last ten minutes of the tree as lanes: exits, restarts, drills and commands, one lane per actor. The list of events says the same in words.
import { actorAddress } from "../addresses.js";
import { empty, h, keyed, setText, svg, swap } from "../dom.js";
import { stateText } from "../lifecycle.js";
import { summary, timeline, WINDOW_MS } from "../restarts.js";
import { clock } from "../times.js";

const TICK_MINUTES = [10, 8, 6, 4, 2, 0];
/** By kind: path around its own middle, and how far below the lane's middle it lies. */
const GLYPHS = {
  exit: { d: "M0-5.5A5.5 5.5 0 1 1 0 5.5A5.5 5.5 0 1 1 0-5.5Z", down: 0 },
  restart: { d: "M0-4.5L4.5 3.5H-4.5Z", down: 11 },
  drill: { d: "M-4.5-3.5H4.5L0 4.5Z", down: -11 },
  command: { d: "M-3.5-3.5H3.5V3.5H-3.5Z", down: -11 },
};
const NAMES = { restart: "restart", drill: "drill", command: "command" };

export class RestartChart {
  /** `onChoose(path)` hears of the actor whose mark was clicked; `now()` is the server's time in milliseconds. */
  constructor({ onChoose, now }) {
    this.onChoose = onChoose;
    this.now = now;
    this.events = null;
    this.blank = h("div", {});
    this.legend = h("ul", { class: "legend", "aria-label": "Marks" });
    this.lanes = h("ul", { class: "lanes" });
    this.more = h("p", { class: "panel-note under" });
    this.axis = h("div", { class: "lane-axis", "aria-hidden": "true" }, h("div", { class: "ticks" }, ...TICK_MINUTES.map((minutes) => h("span", { class: minutes % 10 > 0 ? "wide" : null }, minutes > 0 ? `−${minutes} min` : "now"))));
    this.element = h("div", { class: "restarts" }, this.blank, this.lanes, this.axis, this.more);
  }

  show({ data, error }) {
    this.events = data?.events ?? this.events;
    this.error = error;
    this.draw();
  }

  draw() {
    const { lanes, more } = timeline(this.events ?? [], this.now());
    const state = lanes.length > 0 ? "lanes" : this.events ? "none" : this.error ? "failed" : "loading";
    swap(this.blank, state, () => blankState(state));
    for (const part of [this.lanes, this.axis, this.legend]) part.hidden = lanes.length === 0;
    this.more.hidden = more === 0;
    setText(this.more, `${more} further ${more === 1 ? "actor" : "actors"}, with older marks, in the list of events.`);
    keyed(this.lanes, lanes, { key: ({ path }) => path, make: (lane) => this.makeLane(lane), update: (element, lane) => this.updateLane(element, lane) });
    const tones = new Set(lanes.flatMap(({ marks }) => marks.map(({ kind, tone }) => `${kind} ${tone}`)));
    swap(this.legend, [...tones].sort().join(), () => [...tones].sort().map(legendItem));
  }

  makeLane({ path }) {
    const choose = (event) => {
      event.preventDefault();
      this.onChoose(path);
    };
    const strip = svg("svg", { class: "strip", role: "img", onclick: choose }, svg("line", { class: "rail", x1: "0", x2: "100%", y1: "50%", y2: "50%" }), svg("g"));
    return h("li", { class: "lane" }, h("a", { class: "lane-name", href: actorAddress(path), title: path, onclick: choose }, path), strip);
  }

  updateLane(element, lane) {
    const strip = element.lastChild;
    strip.setAttribute("aria-label", `${lane.path}, last 10 minutes: ${summary(lane)}`);
    keyed(strip.lastChild, lane.marks, { key: ({ key }) => key, make: makeMark, update: (mark, item) => this.updateMark(mark, item) });
  }

  updateMark(element, { at, text, count }) {
    const share = Math.min(Math.max(1 - (this.now() - at) / WINDOW_MS, 0), 1);
    element.setAttribute("x", `${(share * 100).toFixed(2)}%`);
    const [title, , number] = element.children;
    setText(title, `${clock(at)} ${count > 1 ? `${count} times, last: ` : ""}${text}`);
    setText(number, count > 1 ? `×${count}` : "");
  }
}

/** A nested picture, since only its place may be a share of the width. */
function makeMark({ kind, tone }) {
  const { d, down } = GLYPHS[kind];
  const place = `translate(0 ${down})`;
  return svg("svg", { class: `mark-${kind} tone-${tone}`, y: "50%", overflow: "visible" }, svg("title"), svg("path", { d, transform: place }), svg("text", { x: "8", y: String(down + 4) }));
}

function legendItem(name) {
  const [kind, tone] = name.split(" ");
  const glyph = svg("svg", { class: `legend-mark mark-${kind} tone-${tone}`, viewBox: "-7 -7 14 14", "aria-hidden": "true" }, svg("path", { d: GLYPHS[kind].d }));
  return h("li", {}, glyph, NAMES[kind] ?? `exit: ${stateText(tone)}`);
}

function blankState(state) {
  if (state === "lanes") return null;
  if (state === "none") return empty("Quiet.", "No exit, restart, drill or command in the last 10 minutes. A drill, in the panel of an actor, makes one.");
  return state === "loading" ? empty("Loading events.") : empty("Events cannot be read now.", "They appear here as soon as the server answers.");
}
