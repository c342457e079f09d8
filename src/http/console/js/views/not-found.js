// What an address shows that leads nowhere: once, in one sentence, with the way back.
import { empty, h } from "../dom.js";

export const title = "Not found";

/** A view that says `what` there is not; `back` is `{href, text}`. */
export const notFound = (what, back) => ({
  title,
  mount(slot) {
    slot.append(h("section", { class: "panel not-found" }, empty(what, h("a", { href: back.href }, back.text))));
    return { unmount: () => {} };
  },
});
