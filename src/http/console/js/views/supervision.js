// Supervision: the tree of actors, the chosen one in detail, and what happened lately.
import { badge, code, empty, h, keyed, panel, swap } from "../dom.js";
import { compact, NONE, span, timeOf, whole } from "../format.js";
import { events, tree } from "../resources.js";
import { facts } from "./facts.js";
import { inHandText, stateText, toneOf, TreeGrid } from "./tree-grid.js";

export { toneOf };
export const title = "Supervision";

const MAX_EVENTS = 100;

export function mount(slot) {
  const chosen = h("div", { class: "chosen-actor" });
  const grid = new TreeGrid((node) => showActor(chosen, node));
  const treeBlank = h("div", {});
  const eventList = h("ol", {});
  // Scrolls on its own, so the keyboard must reach it.
  const eventFrame = h("div", { class: "events", role: "region", "aria-label": "Events", tabindex: "0" }, eventList);
  const eventBlank = h("div", {});
  slot.append(
    h(
      "div",
      { class: "columns wide-left" },
      panel("Actors", {}, treeBlank, grid.element),
      h("div", { class: "stack" }, panel("Chosen actor", {}, chosen), panel("Events, newest first", {}, eventBlank, eventFrame)),
    ),
  );
  const stops = [
    tree.subscribe(({ data, error }) => {
      if (data) grid.show(data);
      const known = grid.rows.length > 0;
      grid.element.hidden = !known;
      swap(treeBlank, known ? "rows" : blankState(data, error), () => (known ? null : treeState(data, error)));
    }),
    events.subscribe(({ data, error }) => showEvents(eventList, eventBlank, { data, error })),
  ];
  return {
    unmount: () => {
      for (const stop of stops) stop();
    },
  };
}

const blankState = (data, error) => (data ? "empty" : error ? error.kind : "loading");

function treeState(data, error) {
  if (data) return empty("No actors.", "The server reports an empty tree; it may still be starting.");
  if (error) return empty("The tree cannot be read now.", error.message);
  return empty("Loading the tree.");
}

function showActor(slot, node) {
  if (!node) {
    slot.replaceChildren(empty("No actor chosen.", "Choose a row of the tree."));
    return;
  }
  const shown = JSON.stringify({ ...node, children: undefined });
  swap(slot, shown, () => [
    h("p", { class: "actor-title" }, code(node.path), " ", badge(stateText(node.state), toneOf(node.state))),
    facts([
      ["Kind", node.kind],
      ["Generation", whole(node.generation)],
      ["Restarts", whole(node.restarts ?? 0)],
      ["Since", node.since ? timeOf(node.since) : null],
      ["Inbox", node.inbox ? `${whole(node.inbox.depth)} of ${whole(node.inbox.capacity)}` : NONE],
      ["In hand", inHandText(node.in_hand)],
      ["Waits for", node.waiting_on ? `${node.waiting_on.on}, ${span(node.waiting_on.for_ms / 1000)}` : null],
      ["Restarts in", typeof node.restart_in_ms === "number" ? span(node.restart_in_ms / 1000) : null],
      ["Processed", compact(node.processed)],
    ]),
    node.note ? h("p", { class: "note" }, node.note) : null,
    h("h3", {}, "Last exit"),
    exit(node.last_exit),
  ]);
}

function exit(last) {
  if (!last) return h("p", { class: "sub" }, "None: this is its first incarnation.");
  const { culprit } = last;
  return h(
    "div",
    { class: "exit-box" },
    h("p", {}, badge(stateText(last.reason), "warn"), " ", timeOf(last.at), last.injected ? " (injected by a drill)" : ""),
    last.message ? h("pre", { class: "raw" }, last.message) : null,
    facts([
      ["Place", last.location ? code(last.location) : null],
      ["Record in hand", culprit ? code(`${culprit.topic}, partition ${culprit.partition}, offset ${culprit.offset}`) : null],
    ]),
    last.backtrace_head ? h("pre", { class: "raw" }, last.backtrace_head) : null,
  );
}

function showEvents(list, blank, { data, error }) {
  const all = [...(data?.events ?? [])].sort((a, b) => b.seq - a.seq).slice(0, MAX_EVENTS);
  const state = all.length > 0 ? "rows" : data ? "none" : error ? error.kind : "loading";
  swap(blank, state, () => eventState(state, error));
  list.parentElement.hidden = all.length === 0;
  keyed(list, all, { key: (event) => event.seq, make: makeEvent, update: () => {} });
}

function eventState(state, error) {
  if (state === "rows") return null;
  if (state === "none") return empty("No events.", "Starts, exits, restarts and escalations of actors are listed here as they happen.");
  return state === "loading" ? empty("Loading events.") : empty("Events cannot be read now.", error?.message ?? "");
}

function makeEvent(event) {
  const { word, tone, detail } = describe(event);
  return h("li", {}, timeOf(event.at), h("div", {}, badge(word, tone), " ", code(event.path), detail ? h("span", { class: "sub" }, detail) : null));
}

/** An event in words: a new state and an exit speak for themselves, the rest by their kind. */
function describe(event) {
  if (event.kind === "state") return { word: stateText(event.state), tone: toneOf(event.state), detail: `generation ${event.generation}` };
  if (event.kind === "exit") {
    const calm = ["normal", "shutdown"].includes(event.exit.reason);
    return { word: stateText(event.exit.reason), tone: calm ? "quiet" : "bad", detail: event.exit.message || `generation ${event.exit.generation} ended` };
  }
  const detail = event.command ?? (typeof event.detail === "string" ? event.detail : "");
  return { word: stateText(event.kind), tone: ["abandoned", "missed_stop"].includes(event.kind) ? "warn" : "quiet", detail };
}
