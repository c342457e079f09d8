// The banner above the page: what does not work right now, and what to do about it.
import { useToken } from "./api.js";
import { code, h, icon, swap } from "./dom.js";
import { refreshAll } from "./resources.js";

const PRIORITY = ["unauthorized", "unreachable", "forbidden", "failed"];

/** Shows that the server is away, or the most urgent of `errors`, in `slot`; a missing route is the business of the panel that asked. */
export function showBanner(slot, errors, isAway, onRetry) {
  const kind = isAway ? "away" : PRIORITY.find((candidate) => errors.some((error) => error.kind === candidate));
  const concerned = errors.filter((error) => error.kind === kind);
  swap(slot, stateOf(kind, concerned), () => (kind ? BUILD[kind](concerned, onRetry) : null));
}

/** What decides whether the banner is built anew. A half-typed token must survive the next poll: only an answer to another token counts. */
function stateOf(kind, concerned) {
  if (!kind) return "none";
  if (kind === "unauthorized") return `${kind} ${newestRefused(concerned)}`;
  return `${kind} ${concerned.map((error) => error.path + error.message).join()}`;
}

const newestRefused = (errors) => Math.max(...errors.map(({ refused }) => refused));

const BUILD = {
  away: (_, onRetry) =>
    banner("bad", "Streamward does not answer", [
      h("p", {}, "No answer from ", code(location.origin), ". Check that the server is running (", code("streamward run"), ") and that this address is its HTTP listener."),
      h("p", {}, "The figures below are the last ones received. The server is asked each second, and the page goes on by itself once it answers."),
      retry(onRetry),
    ]),

  unreachable: (errors, onRetry) => banner("warn", "Some parts do not answer", [h("p", {}, list(errors)), retry(onRetry)]),

  unauthorized: (errors, onRetry) => {
    const isRefused = newestRefused(errors) > 0;
    const why = errors.find(({ refused }) => refused === newestRefused(errors)).message;
    return banner("warn", isRefused ? "The server refused this access token" : "This server asks for an access token", [
      isRefused && h("p", {}, `It says: ${why}. None of its tokens (auth.tokens of its configuration) is the one given. Paste it again, whole and without spaces, or ask for another.`),
      h("p", {}, "Paste a token with the role viewer or higher. It stays in this browser tab and is forgotten when the tab is closed."),
      tokenForm(onRetry),
    ]);
  },

  forbidden: (errors) =>
    banner("warn", "Not permitted", [
      h("p", {}, "The access token in use may not read ", list(errors), ". Ask for a token with the role viewer or higher."),
      tokenForm(refreshAll),
    ]),

  failed: (errors, onRetry) =>
    banner("warn", "The server reports an error", [
      h("p", {}, list(errors), "."),
      h("p", {}, "The server's log names the cause. If an actor failed, the supervision page shows its last exit."),
      retry(onRetry),
    ]),
};

const banner = (tone, title, content) => h("section", { class: `banner ${tone}`, role: "alert" }, icon("warn"), h("h2", {}, title), ...content);

/** "`/api/v1/lag` (no answer within 8 s), …", as one element. */
function list(errors) {
  const parts = errors.flatMap((error, index) => [index > 0 ? ", " : "", code(error.path.split("?")[0]), ` (${error.message})`]);
  return h("span", {}, ...parts);
}

const retry = (onRetry) => h("div", { class: "banner-act" }, h("button", { type: "button", class: "tool", onclick: onRetry }, "Try again now"));

function tokenForm(onRetry) {
  const input = h("input", { type: "password", autocomplete: "off", name: "token", required: true });
  const submit = (event) => {
    event.preventDefault();
    useToken(input.value);
    input.value = "";
    onRetry();
  };
  return h(
    "form",
    { class: "banner-act", onsubmit: submit },
    h("label", { class: "field" }, "Access token", input),
    h("button", { type: "submit", class: "tool" }, "Use token"),
  );
}
