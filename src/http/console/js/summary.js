// What the navigation and the tiles say about the whole server, derived from the polled resources. Pure functions.
import { parseTime } from "./times.js";

/** Every actor of a tree, parents before children. */
export function flatten(root) {
  if (!root) return [];
  return [root, ...(root.children ?? []).flatMap(flatten)];
}

const sum = (items, of) => items.reduce((total, item) => total + (Number(of(item)) || 0), 0);

/** Open alerts by severity; `more` when the list was cut and the total is only known as a lower bound. */
export function alertSummary(answer) {
  if (!answer) return null;
  const firing = (answer.alerts ?? []).filter((alert) => alert.state === "firing");
  const onlyFiring = firing.length === (answer.alerts ?? []).length;
  const bySeverity = new Map();
  for (const alert of firing) bySeverity.set(alert.severity, (bySeverity.get(alert.severity) ?? 0) + 1);
  return {
    count: onlyFiring ? Math.max(answer.total ?? 0, firing.length) : firing.length,
    more: !onlyFiring && answer.next !== null && answer.next !== undefined,
    bySeverity,
  };
}

export function streamSummary(answer) {
  if (!answer) return null;
  const all = answer.streams ?? [];
  return { count: all.length, rate: all.some((s) => s.rate !== null) ? sum(all, (s) => s.rate) : null, stored: sum(all, (s) => s.stored) };
}

/** Restarts over all actors, and the newest exit among them. */
export function restartSummary(answer) {
  if (!answer) return null;
  const nodes = flatten(answer);
  const exits = nodes.filter((node) => node.last_exit?.at).sort((a, b) => parseTime(b.last_exit.at) - parseTime(a.last_exit.at));
  return { actors: nodes.length, restarts: sum(nodes, (node) => node.restarts), lastExit: exits[0] ?? null };
}

const TREND_S = 60;

/** How much a growing total grew in the last minute, from the samples seen. */
export class Trend {
  constructor() {
    this.samples = [];
  }

  add(value, at = Date.now()) {
    const last = this.samples.at(-1);
    if (typeof value !== "number" || (last && at <= last.at)) return;
    if (last && value < last.value) this.samples = [];
    this.samples.push({ value, at });
    while (this.samples.length > 2 && this.samples[1].at <= at - TREND_S * 1000) this.samples.shift();
  }

  /** `{grown, seconds}`; null before two samples. */
  read() {
    if (this.samples.length < 2) return null;
    const [first, last] = [this.samples[0], this.samples.at(-1)];
    return { grown: last.value - first.value, seconds: (last.at - first.at) / 1000 };
  }
}
