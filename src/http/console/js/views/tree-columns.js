// The columns of the tree: what each shows of an actor, and from which width of the panel on.
import { badge, h, icon, setBadge, setText } from "../dom.js";
import { compact, micros, millis, NONE, rate, span, whole } from "../format.js";
import { exitText, isCalm, stateText, toneOf } from "../lifecycle.js";
import { parseTime, setTime, timeElement } from "../times.js";
import { Edge } from "./edge.js";

/** An exit younger than this is set off by colour. */
const RECENT_S = 600;
/** A queue fuller than this share of its capacity is set off. */
const FULL = 0.8;

/** "85 µs / 1.2 ms": the median and the 99th percentile of a measured time. */
export const quantiles = (times) => (times ? `${micros(times.p50)} / ${micros(times.p99)}` : NONE);

/** What an actor works on, and for how long. */
export const inHandText = (inHand) => (inHand ? `${inHand.label}, ${millis(inHand.for_ms)}` : NONE);

export const depthText = (inbox) => (inbox ? `${whole(inbox.depth)} / ${whole(inbox.capacity)}` : NONE);

export const isFull = (inbox) => Boolean(inbox) && inbox.depth > inbox.capacity * FULL;

export const nameOf = (path) => path.split("/").filter(Boolean).at(-1) ?? "root";

const text = (name, className, of, { title, mark = () => false } = {}) => ({
  name,
  className,
  title,
  make: () => ({
    content: "",
    update: (node, cell) => {
      const shown = of(node);
      setText(cell, shown);
      cell.classList.toggle("nil", shown === NONE);
      cell.classList.toggle("odd", mark(node));
    },
  }),
});

/** Each: `{name, className, title?, make(context) → {content, update(node, cell)}}`; `context` is `{node, fold(), onFollow(path), onDetails(), restartsBy()}`. */
export const COLUMNS = [
  { name: "Actor", className: "", make: actor },
  { name: "State", className: "fit", make: state },
  { name: "Restarts", className: "num", make: restarts },
  text("Rate", "num from-s", ({ rate_per_s: perSecond }) => (typeof perSecond === "number" ? `${rate(perSecond)}/s` : NONE), { title: "Records finished per second" }),
  text("Step p50 / p99", "num from-m", ({ step_us: times }) => quantiles(times), { title: "Time of one step: median / 99th percentile" }),
  text("Inbox", "num from-s", ({ inbox }) => depthText(inbox), { title: "Messages waiting / capacity", mark: ({ inbox }) => isFull(inbox) }),
  { name: "Waiting on", className: "from-w", make: waiting },
  text("Queue p50 / p99", "num from-l", ({ queue_us: times }) => quantiles(times), { title: "Time that messages waited in the inbox: median / 99th percentile" }),
  text("Processed", "num from-l", ({ processed }) => compact(processed)),
  { name: "Since", className: "num from-l", make: since },
  text("Generation", "num from-xl", ({ generation }) => whole(generation)),
  text("In hand", "in-hand from-xl", ({ in_hand: inHand }) => inHandText(inHand)),
];

function actor({ node, fold, onDetails }) {
  const name = nameOf(node.path);
  // The pointer folds without choosing: the row must not get the focus.
  const handle = h("span", { class: "fold", "aria-hidden": "true", onclick: fold, onmousedown: (event) => event.preventDefault() }, icon("chevron"));
  const exit = h("span", { class: "sub exit" });
  const kind = h("span", { class: "kind" }, node.kind && node.kind !== name ? ` ${node.kind}` : "");
  const details = h("button", { type: "button", class: "jump", onclick: onDetails }, "Details below");
  return {
    content: h("div", { class: "actor" }, handle, h("div", {}, h("span", { class: "strong" }, name), kind, exit, details)),
    update: (next) => showTrouble(exit, next),
  };
}

/** The line below an actor's name: why it is degraded, else how its last incarnation ended. */
function showTrouble(element, { note, last_exit: exit }) {
  const age = exit ? (Date.now() - parseTime(exit.at)) / 1000 : Number.NaN;
  const ended = exit ? `${stateText(exit.reason)} ${span(age)} ago${exit.message ? `: ${exit.message}` : ""}` : "";
  setText(element, note ?? ended);
  if (exit && !note) element.title = exitText(exit);
  element.classList.toggle("recent", Boolean(note) || (age < RECENT_S && !isCalm(exit.reason)));
}

function state() {
  const shown = badge("");
  return { content: shown, update: (node) => setBadge(shown, stateText(node.state), toneOf(node.state)) };
}

function restarts({ restartsBy }) {
  return {
    content: "",
    update: (node, cell) => {
      const by = restartsBy();
      setText(cell, whole(node.restarts ?? 0) + (by > 0 ? ` (+${by})` : ""));
      cell.classList.toggle("some", node.restarts > 0);
    },
  };
}

function waiting({ onFollow }) {
  const edge = new Edge(onFollow);
  return {
    content: edge.element,
    update: (node, cell) => {
      edge.show(node.waiting_on);
      cell.classList.toggle("nil", !node.waiting_on);
    },
  };
}

function since() {
  const time = timeElement();
  return { content: time, update: (node) => setTime(time, node.since, { ago: true }) };
}
