// Small parts of opened rows: a list of names and values, and JSON.
import { h } from "../dom.js";

export function facts(pairs) {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return h("dl", { class: "facts" }, ...shown.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, typeof value === "number" ? String(value) : value))));
}

/** A value as indented JSON; a text that is JSON itself is unfolded. */
export const json = (value) => h("pre", { class: "raw" }, typeof value === "string" ? unfold(value) : JSON.stringify(value, null, 2));

function unfold(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
