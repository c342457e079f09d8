// The figures of the chosen actor: what it does now, and how it is looked after.
import { h, keyed, setText, swap } from "../dom.js";
import { compact, millis, NONE, rate, span, whole } from "../format.js";
import { isSupervisor } from "../lifecycle.js";
import { setTime, timeElement } from "../times.js";
import { Edge } from "./edge.js";
import { inHandText, isFull, quantiles } from "./tree-columns.js";

export class ActorFacts {
  constructor(onFollow) {
    this.edge = new Edge(onFollow);
    this.since = timeElement();
    this.work = h("dl", { class: "figures" });
    this.care = h("dl", { class: "figures" });
    this.elements = [this.work, this.care];
  }

  show(node, parent) {
    const { inbox, waiting_on: waitingOn } = node;
    this.edge.show(waitingOn);
    setTime(this.since, node.since, { ago: true });
    fill(this.work, isSupervisor(node) ? [] : [
      ["In hand", inHandText(node.in_hand), "span"],
      ["Waiting on", waitingOn ? this.edge.element : NONE],
      ["Rate", typeof node.rate_per_s === "number" ? `${rate(node.rate_per_s)}/s` : NONE],
      ["Processed", compact(node.processed)],
      ["Step p50 / p99", quantiles(node.step_us)],
      ["Queue p50 / p99", quantiles(node.queue_us)],
      ...(inbox ? inboxFigures(inbox) : []),
    ]);
    fill(this.care, [
      ["Since", this.since],
      ["Generation", whole(node.generation)],
      ["Restarts", whole(node.restarts ?? 0)],
      ...budget(node, parent),
      typeof node.restart_in_ms === "number" && ["Restarts in", millis(node.restart_in_ms), "odd"],
      node.zombies > 0 && ["Fenced, still there", whole(node.zombies), "odd"],
      node.strategy && ["Strategy", node.strategy],
      node.strategy && ["Children", `${whole((node.children ?? []).length)} of ${whole(node.max_children)}`],
    ]);
  }
}

const inboxFigures = (inbox) => [
  ["Inbox", `${whole(inbox.depth)} of ${whole(inbox.capacity)}`, isFull(inbox) ? "odd" : ""],
  ["Oldest message", inbox.oldest_ms > 0 ? millis(inbox.oldest_ms) : NONE],
  ["Senders blocked", inbox.blocked_ms > 0 ? span(inbox.blocked_ms / 1000) : "never"],
];

/** How many restarts the supervisor still takes before it gives up: the actor's own window, and that of its parent. */
function budget(node, parent) {
  const use = ({ restarts_in_window: used, intensity }) => [`${whole(used)} of ${whole(intensity.max_restarts)} in ${intensity.within}`, used >= intensity.max_restarts ? "odd" : ""];
  return [node.intensity && ["Own window", ...use(node)], parent?.intensity && ["Parent's window", ...use(parent)]];
}

/** `pairs`: `[name, text or element, className]`, or nothing; `span` is as wide as two, `odd` is set off. */
function fill(list, pairs) {
  const shown = pairs.filter(Boolean);
  list.hidden = shown.length === 0;
  keyed(list, shown, {
    key: ([name]) => name,
    make: ([name]) => h("div", {}, h("dt", {}, name), h("dd", {})),
    update: (element, [, value, className = ""]) => {
      const dd = element.lastChild;
      element.className = className;
      if (typeof value === "string") {
        delete dd.dataset.shown;
        setText(dd, value);
      } else swap(dd, "element", () => value);
    },
  });
}
