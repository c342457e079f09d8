// The chosen actor: what it does, how it last ended, and what can be done with it.
import { badge, code, empty, h, setBadge, setText } from "../dom.js";
import { stateText, toneOf } from "../lifecycle.js";
import { ActorCommands } from "./actor-commands.js";
import { ActorExit } from "./actor-exit.js";
import { ActorFacts } from "./actor-facts.js";
import { DrillForm } from "./drill-form.js";
import { PolicyForm } from "./policy-form.js";

export class ActorPanel {
  constructor({ onFollow }) {
    this.onFollow = onFollow;
    this.exit = new ActorExit();
    /** Reports and running drills outlive the choice of another actor. */
    this.drills = new Map();
    this.element = h("div", { class: "chosen-actor", role: "group", "aria-label": "Chosen actor", tabindex: "-1" }, empty("No actor chosen.", "Choose a row of the tree."));
  }

  show(node, parent) {
    if (!node) return;
    if (node.path !== this.path) this.build(node);
    setBadge(this.state, stateText(node.state), toneOf(node.state));
    setText(this.note, node.note ?? "");
    this.note.hidden = !node.note;
    this.facts.show(node, parent);
    this.exit.show(node.last_exit);
    this.commands.show(node);
    this.policy?.show(node);
    this.drill.paint();
  }

  build(node) {
    const wasOpen = this.policy?.element.open ?? false;
    this.path = node.path;
    this.state = badge("");
    this.note = h("p", { class: "note" });
    this.facts = new ActorFacts(this.onFollow);
    this.commands = new ActorCommands(node.path);
    this.policy = node.policy ? new PolicyForm(node) : null;
    if (this.policy) this.policy.element.open = wasOpen;
    this.drill = this.drillOf(node);
    const parts = [
      h("p", { class: "actor-title" }, code(node.path), " ", this.state, h("span", { class: "kind" }, ` ${node.kind ?? ""}`)),
      this.note,
      this.commands.element,
      ...this.facts.elements,
      h("h3", {}, "Last exit"),
      this.exit.element,
      this.drill.element,
      this.policy?.element,
    ];
    this.element.replaceChildren(...parts.filter(Boolean));
  }

  drillOf(node) {
    if (!this.drills.has(node.path)) this.drills.set(node.path, new DrillForm(node));
    return this.drills.get(node.path);
  }

  close() {
    this.exit.close();
  }
}
