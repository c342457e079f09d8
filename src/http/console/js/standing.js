// What stands still although it should move: named above every page, with the reason and the way out.
import { code, h, icon, swap } from "./dom.js";
import { timeOf } from "./format.js";
import { standingStill } from "./resources.js";

const MAX_SHOWN = 5;

/** Keeps `slot` in step with the server's findings, from now on. */
export function watchStandingStill(slot, announce) {
  let before = 0;
  standingStill.subscribe(({ data }) => {
    if (!data) return;
    const findings = data.standing_still ?? [];
    swap(slot, JSON.stringify(findings), () => (findings.length > 0 ? section(findings) : null));
    if (findings.length > before) announce(title(findings));
    before = findings.length;
  });
}

const title = (findings) => (findings.length === 1 ? "Something stands still" : `${findings.length} things stand still`);

function section(findings) {
  const more = findings.length - MAX_SHOWN;
  return h(
    "section",
    { class: "standing" },
    icon("warn"),
    h("h2", {}, title(findings)),
    h("ul", {}, ...findings.slice(0, MAX_SHOWN).map(item)),
    more > 0 && h("p", {}, `And ${more} more: `, code("GET /api/v1/standing-still"), "."),
  );
}

function item({ actor, pipeline, partition, reason, way_out: wayOut, since }) {
  const place = pipeline === null ? actor : `Pipeline ${pipeline}${partition === null ? "" : `, partition ${partition}`}`;
  return h("li", {}, h("strong", {}, place), ": ", reason, h("span", { class: "sub" }, "Since ", timeOf(since, { ago: true }), ". Way out: ", wayOut));
}
