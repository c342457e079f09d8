// From the list of events to lanes of a timeline: one per actor to which something happened, with marks at their times. Pure functions.
import { describe, exitText, injectedFault, isCalm } from "./lifecycle.js";

export const WINDOW_MS = 600_000;
const MAX_LANES = 8;
/** Marks of one kind closer than this are drawn as one. */
const TOGETHER_MS = 20_000;

/**
 * Of the ten minutes before `now`: `{lanes: [{path, marks}], more}`, the actors with the newest marks, in the order of their paths;
 * `more` counts those left out. A mark is `{key, at, kind, tone, text, count}`, kind being exit, restart, drill or command.
 */
export function timeline(events, now) {
  const byActor = new Map();
  for (const event of events) {
    const mark = event.at >= now - WINDOW_MS ? markOf(event) : null;
    if (!mark) continue;
    const lane = byActor.get(event.path) ?? { path: event.path, marks: [], newest: 0, isWorth: false };
    addMark(lane.marks, mark);
    lane.newest = Math.max(lane.newest, mark.at);
    lane.isWorth ||= mark.isWorth;
    byActor.set(event.path, lane);
  }
  const all = [...byActor.values()].filter((lane) => lane.isWorth).sort((a, b) => b.newest - a.newest);
  const lanes = all.slice(0, MAX_LANES).sort((a, b) => (a.path < b.path ? -1 : 1));
  return { lanes, more: all.length - lanes.length };
}

/** Sessions come and go: an end as wished gets a mark, but no lane of its own. */
function markOf(event) {
  const mark = (kind, tone, text, isWorth = true) => ({ key: String(event.seq), at: event.at, kind, tone, text, count: 1, isWorth });
  if (event.kind === "exit") return mark("exit", event.exit.reason, `${event.exit.injected ? "drill, " : ""}${exitText(event.exit)}`, !isCalm(event.exit.reason));
  if (event.kind === "state" && event.state === "running" && event.generation > 1) return mark("restart", "restart", `restarted as generation ${event.generation}`);
  if (event.kind === "command" && injectedFault(event.command)) return mark("drill", "drill", `drill injects ${injectedFault(event.command)}`);
  if (["command", "policy", "supervision"].includes(event.kind)) return mark("command", "command", `${describe(event).word}: ${describe(event).detail}`);
  return null;
}

function addMark(marks, mark) {
  const last = marks.findLast((other) => other.kind === mark.kind);
  if (last && last.tone === mark.tone && mark.at - last.at < TOGETHER_MS) Object.assign(last, { at: mark.at, text: mark.text, count: last.count + 1 });
  else marks.push(mark);
}

/** What a lane shows, for those who do not see it: "2 exits, 2 restarts". */
export function summary({ marks }) {
  const counts = new Map();
  for (const { kind, count } of marks) counts.set(kind, (counts.get(kind) ?? 0) + count);
  return [...counts].map(([kind, count]) => `${count} ${kind}${count === 1 ? "" : "s"}`).join(", ");
}
