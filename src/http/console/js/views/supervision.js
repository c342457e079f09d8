// Supervision: what happened in the last minutes, the tree of actors, the chosen one in detail, and the events in words.
import { actorAddress } from "../addresses.js";
import { onCaller } from "../caller.js";
import { empty, h, panel, swap } from "../dom.js";
import { LiveFeed } from "../live.js";
import { events, tree } from "../resources.js";
import { flatten } from "../summary.js";
import { ActorPanel } from "./actor-panel.js";
import { supervision } from "./drill-form.js";
import { EventList } from "./event-list.js";
import { RestartChart } from "./restart-chart.js";
import { TreeGrid } from "./tree-grid.js";

export const title = "Supervision";

export const takesPath = true;

/** The tree is asked for at most this often while events come in. */
const TREE_WITHIN_MS = 300;

export function mount(slot, { path, readings, isPaused, notFound }) {
  /** The actor of the address, until the first tree tells whether there is one. */
  let wanted = path;
  const show = (node, parent) => {
    actor.show(node, parent);
    list.choose(node?.path ?? null);
  };
  const reveal = (target) => grid.reveal(target);
  const actor = new ActorPanel({ onFollow: reveal });
  const grid = new TreeGrid({ chosen: path || null, onShow: show, onChoose: remember, onDetails: () => actor.element.focus() });
  const chart = new RestartChart({ onChoose: reveal, now: () => readings.now() * 1000 });
  const list = new EventList();
  const blank = h("div", {});
  slot.append(
    panel("Last 10 minutes", { aside: chart.legend, className: "timeline" }, chart.element),
    h(
      "div",
      { class: "supervision" },
      panel("Actors", { className: "actors" }, blank, grid.element),
      panel("Chosen actor", { className: "chosen-panel", aside: h("button", { type: "button", class: "jump", onclick: () => grid.focus() }, "Back to the tree") }, actor.element),
      panel("Events, newest first", { className: "event-panel", aside: list.which }, ...list.elements),
    ),
  );
  const stops = [
    tree.subscribe(({ data, error }) => {
      if (data && wanted && !flatten(data).some((node) => node.path === wanted)) {
        notFound(`There is no actor ${wanted}.`, { href: "#/supervision", text: "All actors" });
        return;
      }
      if (data) {
        wanted = null;
        grid.show(data);
      }
      const known = grid.rows.length > 0;
      grid.element.hidden = !known;
      swap(blank, known ? "rows" : (error?.kind ?? "loading"), () => (known ? null : treeState(error)));
    }),
    events.subscribe((state) => {
      chart.show(state);
      list.show(state);
    }),
    ...[onCaller, (listener) => supervision.subscribe(listener)].map((subscribe) => subscribe(() => grid.answer && grid.show(grid.answer))),
    follow(isPaused),
  ];
  return {
    redraw: () => chart.draw(),
    unmount: () => {
      for (const stop of stops) stop();
      actor.close();
    },
  };
}

/** Shows events as they happen; polls fill in what the feed leaves out. Returns what ends it. */
function follow(isPaused) {
  let wasLost = false;
  const feed = new LiveFeed("/ws/supervision", {
    onFrame: (frame) => {
      if (isPaused() || frame.type !== "supervision_event") return;
      events.push(frame.data);
      tree.loadSoon(TREE_WITHIN_MS);
    },
    onState: ({ state }) => {
      if (state === "live" && wasLost) events.restart();
      wasLost = state !== "live";
    },
  });
  feed.connect();
  return () => feed.close();
}

/** Puts the chosen actor into the address, so that it can be kept and passed on. */
const remember = (path) => history.replaceState(null, "", actorAddress(path));

const treeState = (error) => (error ? empty("The tree cannot be read now.", error.message) : empty("Loading the tree."));
