// One topic beside its records: partitions, consumer groups with their lag, settings and changing them.
import { call } from "../api.js";
import { badge, breakable, choice, code, empty, h, panel, setText, swap } from "../dom.js";
import { ExpandableTable } from "../expandable.js";
import { bytes, compact, whole } from "../format.js";
import { resource } from "../resources.js";
import { say } from "./said.js";

const EVERY_MS = 10_000;

const cell = (className, ...children) => h("td", { class: className }, ...children);

export class TopicDetail {
  /** `onPartitions(ids)` hears which partitions there are, `onMissing()` that the broker has no such topic. */
  constructor(name, { onPartitions, onMissing }) {
    this.name = name;
    this.onPartitions = onPartitions;
    this.onMissing = onMissing;
    this.path = `/api/v1/topics/${encodeURIComponent(name)}`;
    this.onlyOwn = true;
    this.summary = h("span", { class: "panel-note" });
    this.partitions = h("div", {});
    this.groups = h("div", {});
    this.configBlank = h("div", {});
    this.configs = this.makeConfigs();
    const which = choice("Settings", [["own", "Own"], ["all", "All"]], (value) => {
      this.onlyOwn = value === "own";
      this.showConfigs();
    });
    this.elements = [
      panel("Partitions", {}, this.partitions),
      panel("Consumer groups", {}, this.groups),
      panel("Settings", { aside: which }, this.configBlank, this.configs.element),
    ];
  }

  start() {
    this.resource = resource(this.path, { everyMs: EVERY_MS });
    return this.resource.subscribe((state) => this.receive(state));
  }

  receive({ data, error }) {
    if (error?.kind === "missing") {
      this.onMissing();
      return;
    }
    if (data) this.topic = data;
    if (!this.topic) {
      const build = () => (error ? empty("The topic cannot be read now.", error.message) : empty("Loading the topic."));
      for (const slot of [this.partitions, this.groups, this.configBlank]) swap(slot, `blank ${error?.kind}`, build);
      this.configs.element.hidden = true;
      return;
    }
    const { records, bytes: size, used_by: usedBy, partitions, groups } = this.topic;
    const parts = [`${compact(records)} records`, size === null ? null : bytes(size), usedBy ? `used by ${usedBy}` : null];
    setText(this.summary, parts.filter(Boolean).join(" · "));
    swap(this.partitions, JSON.stringify(partitions), () => partitionTable(this.name, partitions));
    swap(this.groups, JSON.stringify(groups), () => this.groupTable());
    this.showConfigs();
    this.onPartitions(partitions.map(({ partition }) => partition));
  }

  groupTable() {
    const { groups, groups_not_asked: notAsked } = this.topic;
    const rest = notAsked > 0 ? h("p", { class: "said" }, `${whole(notAsked)} further groups of the broker were not asked.`) : null;
    if (groups.length === 0) return [empty("No group reads this topic.", "A group appears when it has committed an offset here."), rest];
    const heads = [["Group"], ["State"], ["Members", "num wide"], ["Lag", "num"]].map(([name, className]) => h("th", { scope: "col", class: className }, name));
    const rows = groups.map((group) =>
      h("tr", {}, h("th", { scope: "row", class: "name" }, group.group), cell("fit", badge(group.state, group.state === "Stable" ? "good" : "quiet")), cell("num wide", whole(group.members.length)), cell(group.lag > 0 ? "num odd" : "num", whole(group.lag))),
    );
    return [h("table", { class: "rows flat" }, h("caption", { class: "unseen" }, `Groups that read ${this.name}`), h("thead", {}, h("tr", {}, ...heads)), h("tbody", {}, ...rows)), rest];
  }

  makeConfigs() {
    return new ExpandableTable({
      caption: "Settings of the topic; open one to change it",
      columns: [{ name: "Setting" }, { name: "Value" }],
      key: (config) => config.name,
      label: (config) => `setting ${config.name}`,
      makeCells: () => {
        const [name, value] = [cell("name setting"), cell("")];
        const update = (config) => {
          const state = JSON.stringify(config);
          swap(name, state, () => [...breakable(config.name), h("span", { class: "sub" }, SOURCES[config.source] ?? config.source)]);
          setText(value, config.value === null ? "hidden" : config.value || "–");
        };
        return { cells: [name, value], update };
      },
      detail: (config) => this.configForm(config),
    });
  }

  showConfigs() {
    const all = this.topic?.configs ?? [];
    const shown = all.filter((config) => config.own || !this.onlyOwn);
    this.configs.element.hidden = shown.length === 0;
    swap(this.configBlank, `${all.length} ${shown.length === 0}`, () => (shown.length > 0 ? null : empty("No settings of its own.", "All are the broker's defaults; ", code("All"), " shows them.")));
    this.configs.show(shown);
  }

  configForm(config) {
    if (config.read_only) return h("p", { class: "sub" }, "The broker does not let this one be changed.");
    const input = h("input", { name: "value", autocomplete: "off", value: config.value ?? "" });
    const said = h("p", { class: "said", role: "status" });
    const back = h("button", { type: "button", class: "tool", hidden: !config.own, onclick: () => set(null) }, "Back to default");
    const set = async (value) => {
      if (await this.change(config.name, value, said)) back.hidden = value === null;
    };
    const submit = (event) => {
      event.preventDefault();
      set(input.value);
    };
    const acts = h("div", { class: "acts" }, h("button", { type: "submit", class: "tool" }, "Save"), back);
    return [h("form", { class: "form", onsubmit: submit }, h("label", { class: "field" }, `New value of ${config.name}`, input), acts), said];
  }

  /** Whether the broker has taken it. */
  async change(name, value, said) {
    say(said, "", "Saving.");
    try {
      const topic = await call("PATCH", this.path, { configs: { [name]: value } });
      say(said, "good", "Saved.");
      this.receive({ data: topic });
      return true;
    } catch (error) {
      say(said, "bad", error.kind === "forbidden" ? "Changing a topic needs an access token with the role admin." : error.message);
      return false;
    }
  }
}

const SOURCES = { topic: "the topic's own", broker: "set on the broker", default: "default", unknown: "source unknown" };

function partitionTable(name, partitions) {
  const heads = [["Partition", "num"], ["First", "num wide"], ["End", "num wide"], ["Records", "num"], ["Leader", "num"]];
  const row = (one) =>
    h("tr", {}, h("th", { scope: "row", class: "num" }, one.partition), cell("num wide", whole(one.log_start)), cell("num wide", whole(one.log_end)), cell("num", whole(one.records)), cell(one.leader === null ? "num odd" : "num", one.leader ?? "none"));
  return h(
    "table",
    { class: "rows flat" },
    h("caption", { class: "unseen" }, `Partitions of ${name}`),
    h("thead", {}, h("tr", {}, ...heads.map(([head, className]) => h("th", { scope: "col", class: className }, head)))),
    h("tbody", {}, ...partitions.map(row)),
  );
}
