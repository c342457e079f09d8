// Streams with rate, totals, lag and the time of the newest record; a stream opens to its partitions.
import { badge, code, empty, h, setText, swap } from "../dom.js";
import { compact, NONE, rate, span, whole } from "../format.js";
import { ExpandableTable } from "../expandable.js";
import { lag, streams } from "../resources.js";
import { setTime, timeElement } from "../times.js";

const cell = (className, ...children) => h("td", { class: className }, ...children);

const lagOf = (records, seconds) => (records > 0 || seconds > 0 ? `${compact(records)} · ${span(seconds)}` : "0");

const stateOf = ({ state, in_open_transactions: hidden }) =>
  state === "standing_still" ? badge("stands still", "bad") : hidden > 0 ? `${compact(hidden)} in open transactions` : "moves";

/** What is stored and does not count. */
function uncountedText({ ahead, late, full, in_gaps: inGaps }) {
  const parts = [ahead > 0 && `${compact(ahead)} ahead of time`, late > 0 && `${compact(late)} too late for a window`, full > 0 && `${compact(full)} without room in a window`, inGaps > 0 && `${compact(inGaps)} that the log no longer held`];
  const said = parts.filter(Boolean).join(", ");
  return said && `Not counted: ${said}`;
}

export class StreamsTable {
  constructor() {
    this.streams = null;
    this.partitions = new Map();
    this.table = new ExpandableTable({
      caption: "Streams with rate, stored records, dead letters and lag",
      columns: [{ name: "Stream" }, { name: "Records/s", className: "num" }, { name: "Stored", className: "num" }, { name: "Dead", className: "num wide" }, { name: "Newest", className: "num when wide" }, { name: "Lag", className: "num" }],
      key: (stream) => stream.name,
      label: (stream) => `stream ${stream.name}`,
      makeCells: (stream) => this.makeCells(stream),
      detail: (stream) => this.detail(stream),
      liveDetail: true,
    });
    this.blank = h("div", {});
    this.element = h("div", {}, this.blank, this.table.element);
  }

  start() {
    const stopStreams = streams.subscribe(({ data, error }) => {
      this.streams = data?.streams ?? this.streams;
      this.error = error;
      this.show();
    });
    const stopLag = lag.subscribe(({ data }) => {
      if (!data) return;
      this.partitions = Map.groupBy(data.partitions ?? [], (partition) => partition.stream);
      this.show();
    });
    return [stopStreams, stopLag];
  }

  show() {
    const known = this.streams?.length > 0;
    this.table.element.hidden = !known;
    swap(this.blank, known ? "rows" : `${this.streams === null} ${this.error?.kind}`, () => (known ? null : this.blankState()));
    if (known) this.table.show(this.streams);
  }

  blankState() {
    if (this.streams !== null) return empty("No streams.", "Streams come from the section ", code("streams"), " of the configuration file; ", code("streamward check"), " shows what is wrong with it.");
    if (this.error) return empty("Streams cannot be read now.", this.error.message);
    return empty("Loading streams.");
  }

  makeCells(stream) {
    const [now, stored, dead, behind] = [cell("num"), cell("num"), cell("num wide"), cell("num")];
    const uncounted = h("span", { class: "sub" });
    const [newest, newestBelow] = [timeElement(), timeElement()];
    const update = (next) => {
      setText(now, rate(next.rate));
      setText(stored, compact(next.stored));
      setText(dead, compact(next.dead));
      this.showLag(behind, next.name);
      for (const time of [newest, newestBelow]) setTime(time, next.newest, { ago: true });
      setText(uncounted, uncountedText(next));
    };
    const name = cell("name", stream.name, h("span", { class: "sub" }, stream.topic), h("span", { class: "sub narrow" }, "Newest: ", newestBelow), uncounted);
    return { cells: [name, now, stored, dead, cell("num when wide", newest), behind], update };
  }

  /** The lag of a stream, set off where the server takes it for unusual. */
  showLag(element, name) {
    const partitions = this.partitions.get(name) ?? [];
    const records = partitions.reduce((total, partition) => total + (partition.lag_records || 0), 0);
    const seconds = partitions.reduce((most, partition) => Math.max(most, partition.lag_seconds || 0), 0);
    setText(element, partitions.length === 0 ? NONE : lagOf(records, seconds));
    const isStanding = partitions.some(({ state }) => state === "standing_still");
    element.classList.toggle("bad", isStanding);
    element.classList.toggle("odd", !isStanding && partitions.some((partition) => partition.behind));
  }

  detail(stream) {
    const partitions = this.partitions.get(stream.name) ?? [];
    if (partitions.length === 0) return h("p", { class: "sub" }, "No partition of this stream is assigned yet.");
    const head = ["Partition", "Position", "Log end", "Lag", "State"].map((name) => h("th", { scope: "col", class: "num" }, name));
    const rows = partitions.map((p) =>
      h("tr", {}, h("th", { scope: "row", class: "num" }, p.partition), ...[whole(p.position), whole(p.log_end), lagOf(p.lag_records, p.lag_seconds), stateOf(p)].map((text) => cell("num", text))),
    );
    return [
      h("p", { class: "sub" }, "Table ", code(stream.table ?? "–")),
      h("table", { class: "inner" }, h("caption", { class: "unseen" }, `Partitions of ${stream.name}`), h("thead", {}, h("tr", {}, ...head)), h("tbody", {}, ...rows)),
    ];
  }
}
