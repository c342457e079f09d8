// What became of something that was asked for, below its button.
import { setText } from "../dom.js";

/** `tone`: good, bad or none. */
export function say(element, tone, text) {
  element.dataset.tone = tone;
  setText(element, text);
}
