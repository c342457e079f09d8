// States, exits and events of actors in words and tones. Pure functions.

const TONES = {
  running: "good",
  starting: "warn", backing_off: "warn", paused: "warn", degraded: "warn", stopping: "warn",
  failed: "bad",
};
const CALM_EXITS = ["normal", "shutdown"];
const WARNINGS = ["abandoned", "missed_stop"];

export const toneOf = (state) => TONES[state] ?? "quiet";
export const stateText = (state) => String(state ?? "unknown").replaceAll("_", " ");
export const isCalm = (reason) => CALM_EXITS.includes(reason);
export const isSupervisor = (node) => node.kind === "supervisor" || Boolean(node.strategy) || (node.children ?? []).length > 0;

/** "panic: the message". */
export const exitText = ({ reason, message }) => `${stateText(reason)}${message ? `: ${message}` : ""}`;

/** The fault that a command injects, such as "panic"; null for every other command. */
export const injectedFault = (command) => /^Inject\(.*?kind: (\w+)/.exec(command ?? "")?.[1].toLowerCase() ?? null;

/** An event in words: a new state and an exit speak for themselves, the rest by their kind. */
export function describe(event) {
  if (event.kind === "state") return { word: stateText(event.state), tone: toneOf(event.state), detail: `generation ${event.generation}` };
  if (event.kind === "exit") {
    const { exit } = event;
    return { word: stateText(exit.reason), tone: isCalm(exit.reason) ? "quiet" : "bad", detail: exit.message || `generation ${exit.generation} ended` };
  }
  if (event.kind === "command") {
    const fault = injectedFault(event.command);
    return fault ? { word: "drill", tone: "info", detail: `injects: ${fault}` } : { word: "command", tone: "info", detail: event.command.toLowerCase() };
  }
  if (event.kind === "noted") return event.note ? { word: "degraded", tone: "warn", detail: event.note } : { word: "mended", tone: "good", detail: "nothing is wrong around it any more" };
  if (event.kind === "policy" || event.kind === "supervision") return { word: "policy", tone: "info", detail: "looked after in another way from now on" };
  const detail = typeof event.detail === "string" ? event.detail : "";
  return { word: stateText(event.kind), tone: WARNINGS.includes(event.kind) ? "warn" : "quiet", detail };
}
