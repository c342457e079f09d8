// Commands to the chosen actor. What interrupts it is asked again first.
import { call } from "../api.js";
import { hindrance } from "../caller.js";
import { h, setText } from "../dom.js";
import { isSupervisor } from "../lifecycle.js";
import { tree } from "../resources.js";
import { say } from "./said.js";

/** The API's address of something of an actor. */
export const apiPath = (path, what) => `/api/v1/supervision/${path === "/" ? "%2F" : path.split("/").map(encodeURIComponent).join("/")}/${what}`;

const COMMANDS = [
  { name: "restart", label: "Restart", done: "A fresh incarnation is on its way.", warning: "Its incarnation is ended; the next one takes up the message in hand." },
  { name: "pause", label: "Pause", done: "It pauses at its next pause point." },
  { name: "resume", label: "Resume", done: "It goes on." },
  { name: "drain", label: "Drain", done: "It finishes what is queued, then ends.", warning: "It finishes what is queued, then ends and stays down until it is restarted." },
];

export class ActorCommands {
  constructor(path) {
    this.path = path;
    this.buttons = COMMANDS.map((command) => h("button", { type: "button", class: "tool", onclick: () => this.choose(command) }, command.label));
    this.row = h("div", { class: "acts", role: "group", "aria-label": `Commands to ${path}` }, ...this.buttons);
    this.question = h("div", { class: "question", role: "group", "aria-label": "Confirm", hidden: true, onkeydown: (event) => event.key === "Escape" && this.ask(null) });
    this.why = h("p", { class: "sub" });
    this.said = h("p", { class: "said", role: "status" });
    this.element = h("div", { class: "commands" }, this.row, this.question, this.why, this.said);
  }

  show(node) {
    this.isSupervisor = isSupervisor(node);
    const reason = hindrance("operator");
    setText(this.why, reason ?? "");
    this.why.hidden = !reason;
    for (const button of this.buttons) button.disabled = Boolean(reason) || this.isBusy;
  }

  choose(command) {
    if (command.warning) this.ask(command);
    else this.send(command);
  }

  /** Asks for confirmation in the place of the buttons; null takes the question back. */
  ask(command) {
    const asked = this.asked;
    this.asked = command;
    this.row.hidden = command !== null;
    this.question.hidden = command === null;
    if (command === null) {
      this.buttons[COMMANDS.indexOf(asked)]?.focus();
      return;
    }
    const whom = this.isSupervisor ? `${this.path} and all below it` : this.path;
    const yes = h("button", { type: "button", class: "tool danger", onclick: () => this.confirmed(command) }, `${command.label} it`);
    const no = h("button", { type: "button", class: "tool", onclick: () => this.ask(null) }, "Cancel");
    this.question.replaceChildren(h("p", {}, h("span", { class: "strong" }, `${command.label} ${whom}? `), command.warning), h("div", { class: "acts" }, yes, no));
    yes.focus();
  }

  confirmed(command) {
    this.ask(null);
    return this.send(command);
  }

  async send(command) {
    this.setBusy(true);
    say(this.said, "", "Asked for.");
    try {
      await call("POST", apiPath(this.path, command.name));
      say(this.said, "good", command.done);
    } catch (error) {
      say(this.said, "bad", error.message);
    }
    this.setBusy(false);
    tree.load();
  }

  setBusy(isBusy) {
    this.isBusy = isBusy;
    for (const button of this.buttons) button.disabled = isBusy;
  }
}
