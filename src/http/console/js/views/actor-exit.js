// How the last incarnation of an actor ended, and the record that it had in hand.
import { recordAddress } from "../addresses.js";
import { badge, code, h, setText, swap } from "../dom.js";
import { whole } from "../format.js";
import { isCalm, stateText } from "../lifecycle.js";
import { resource } from "../resources.js";
import { timeOf } from "../times.js";

/** A record that fails again alone becomes a dead letter some time after the exit. */
const LETTER_EVERY_MS = 3000;

const queryOf = ({ topic, partition, offset }) => new URLSearchParams({ topic, partition, offset });

export class ActorExit {
  constructor() {
    this.element = h("div", {});
    this.stop = () => {};
  }

  show(exit) {
    swap(this.element, JSON.stringify(exit ?? null), () => {
      this.close();
      return exit ? this.build(exit) : h("p", { class: "sub" }, "None: this is its first incarnation.");
    });
  }

  close() {
    this.stop();
    this.stop = () => {};
  }

  build(exit) {
    const end = exit.injected ? badge("drill", "info") : null;
    return h(
      "div",
      { class: "exit-box" },
      h("p", {}, badge(stateText(exit.reason), isCalm(exit.reason) ? "quiet" : "bad"), " ", end, " ", `generation ${whole(exit.generation)}, `, timeOf(exit.at)),
      exit.message ? h("pre", { class: "raw" }, exit.message) : null,
      exit.location ? h("p", { class: "sub" }, "at ", code(exit.location)) : null,
      exit.culprit ? this.culprit(exit.culprit) : null,
      exit.backtrace_head ? h("details", { class: "fold-part" }, h("summary", {}, "Backtrace, first frames"), h("pre", { class: "raw" }, exit.backtrace_head)) : null,
    );
  }

  culprit(culprit) {
    const letter = h("span", {});
    const found = resource(`/api/v1/dead-letters?${queryOf(culprit)}&limit=1`, { everyMs: LETTER_EVERY_MS });
    this.stop = found.subscribe(({ data, error }) => showLetter(letter, culprit, { data, error }));
    return h(
      "div",
      { class: "culprit" },
      h("p", {}, "Record in hand: ", code(`${culprit.topic}, partition ${culprit.partition}, offset ${whole(culprit.offset)}`)),
      h("p", { class: "links" }, h("a", { href: recordAddress(culprit) }, "Show the record"), letter),
    );
  }
}

function showLetter(slot, culprit, { data, error }) {
  const first = data?.dead_letters?.[0];
  swap(slot, String(first?.id ?? error?.kind ?? Boolean(data)), () => {
    if (first) return h("a", { href: `#/dead-letters?${queryOf(culprit)}` }, `Its dead letter: ${first.class}`);
    return data ? "It is no dead letter." : null;
  });
}
