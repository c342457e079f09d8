// What an actor waits for. If that is another actor, a link that chooses it.
import { actorAddress } from "../addresses.js";
import { h, setText, swap } from "../dom.js";
import { millis, NONE } from "../format.js";

export class Edge {
  /** `onChoose(path)` hears of the actor that was clicked. */
  constructor(onChoose) {
    this.onChoose = onChoose;
    this.whom = h("span", {});
    this.since = h("span", { class: "for" });
    this.element = h("span", { class: "edge" }, this.whom, " ", this.since);
  }

  show(waitingOn) {
    const actor = waitingOn?.actor ?? null;
    swap(this.whom, `${actor} ${waitingOn?.on}`, () => (actor ? this.link(actor, waitingOn.on) : (waitingOn?.on ?? NONE)));
    setText(this.since, waitingOn ? millis(waitingOn.for_ms) : "");
  }

  link(actor, on) {
    const follow = (event) => {
      // The row or the page around it would choose another actor, or be built anew.
      event.preventDefault();
      event.stopPropagation();
      this.onChoose(actor);
    };
    return h("a", { href: actorAddress(actor), title: `Waits for ${actor}`, onclick: follow }, on);
  }
}
