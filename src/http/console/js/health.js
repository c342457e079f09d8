// What is wrong with the server, by its own judgement: named above every page, with the reason and the way out.
import { actorAddress } from "./addresses.js";
import { code, h, icon, swap } from "./dom.js";
import { stateText } from "./lifecycle.js";
import { health } from "./resources.js";
import { timeOf } from "./times.js";

const MAX_SHOWN = 5;

/** Keeps `slot` in step with what the server finds, from now on. */
export function watchHealth(slot, announce) {
  let before = 0;
  health.subscribe(({ data }) => {
    if (!data) return;
    const { findings, reasons } = data;
    swap(slot, JSON.stringify([findings, reasons]), () => (data.isWhole ? null : section(data)));
    const count = findings.length + reasons.length;
    if (count > before) announce(title(data));
    before = count;
  });
}

function title({ findings }) {
  if (findings.length === 0) return "The server is not ready";
  return findings.length === 1 ? "Something stands still" : `${findings.length} things stand still`;
}

function section(data) {
  const items = [...data.findings.map(finding), ...data.reasons.map(hindrance)];
  const more = items.length - MAX_SHOWN;
  return h(
    "section",
    { class: "standing" },
    icon("warn"),
    h("h2", {}, title(data)),
    h("ul", {}, ...items.slice(0, MAX_SHOWN)),
    more > 0 && h("p", {}, `And ${more} more: `, code("GET /health/ready"), "."),
  );
}

function finding({ actor, pipeline, partition, reason, way_out: wayOut, since }) {
  const place = pipeline === null ? actor : `Pipeline ${pipeline}${partition === null ? "" : `, partition ${partition}`}`;
  const why = reason.startsWith(`${place}: `) ? reason.slice(place.length + 2) : reason;
  return h("li", {}, h("strong", {}, place), ": ", why, h("span", { class: "sub" }, "Since ", timeOf(since, { ago: true }), ". Way out: ", wayOut));
}

/** A reason such as "pipelines/shop/lane is backing_off", with a link to the actor; any other as it is. */
function hindrance(reason) {
  const [, path, state] = /^(\S+) is (\w+)$/.exec(reason) ?? [];
  return path ? h("li", {}, h("a", { href: actorAddress(path) }, path), ` is ${stateText(state)}`) : h("li", {}, reason);
}
