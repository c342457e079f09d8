// The six figures on top of the overview.
import { drawSpark, sparkline } from "../charts.js";
import { isAway, onAway } from "../connection.js";
import { h, setText } from "../dom.js";
import { compact, NONE, rate, span, whole } from "../format.js";
import { health, lag, newestDeadLetter, openAlerts, streams, tree } from "../resources.js";
import { alertSummary, restartSummary, streamSummary, Trend } from "../summary.js";
import { parseTime } from "../times.js";

const SPARK_SAMPLES = 90;
const SEVERITIES = ["critical", "high", "warning", "medium", "info", "low"];

// Kept across visits of the page, so that "in the last minute" does not start over.
const trends = { stored: new Trend(), dead: new Trend(), restarts: new Trend() };
const rates = [];

class Tile {
  constructor(label, href = null) {
    this.value = h("span", { class: "tile-value" }, NONE);
    this.unit = h("span", { class: "tile-unit" });
    this.note = h("span", { class: "tile-note" });
    const content = [h("span", { class: "tile-label" }, label), h("span", { class: "tile-figure" }, this.value, this.unit), this.note];
    this.body = href ? h("a", { class: "tile", href }, ...content) : h("div", { class: "tile" }, ...content);
    this.element = h("li", {}, this.body);
  }

  show(value, note, { unit = "", tone = "" } = {}) {
    setText(this.value, value);
    setText(this.unit, unit);
    setText(this.note, note);
    this.body.dataset.tone = tone;
  }
}

const inTheLast = (trend, digits = whole) => {
  const seen = trend.read();
  if (!seen) return "";
  const when = seen.seconds >= 58 ? "minute" : `${Math.round(seen.seconds)} s`;
  return `${seen.grown > 0 ? `+${digits(seen.grown)}` : "none"} in the last ${when}`;
};

/** That no rule fires is no quiet while the server is not well, or away. */
const quiet = () => (health.state.data?.isWhole && !isAway() ? "All quiet" : "No rule fires");

export class Tiles {
  constructor() {
    this.rate = new Tile("Records in");
    this.spark = sparkline();
    this.rate.body.append(this.spark);
    this.stored = new Tile("Records stored");
    this.lag = new Tile("Lag");
    this.alerts = new Tile("Open alerts", "#/alerts");
    this.dead = new Tile("Dead letters", "#/dead-letters");
    this.restarts = new Tile("Restarts", "#/supervision");
    const all = [this.rate, this.stored, this.lag, this.alerts, this.dead, this.restarts];
    this.element = h("ul", { class: "tiles", "aria-label": "Key figures" }, ...all.map((tile) => tile.element));
  }

  /** Subscribes the tiles; returns the functions that end the subscriptions. */
  start() {
    return [
      streams.subscribe((state) => this.showStreams(state)),
      lag.subscribe(({ data }) => data && this.showLag(data)),
      ...[openAlerts, health].map((one) => one.subscribe(() => this.showAlerts())),
      onAway(() => this.showAlerts()),
      newestDeadLetter.subscribe(({ data }) => data && this.showDead(data.total ?? 0)),
      tree.subscribe(({ data, loadedAt }) => data && this.showRestarts(restartSummary(data), loadedAt)),
    ];
  }

  showStreams({ data, loadedAt }) {
    const summary = streamSummary(data);
    if (!summary) return;
    trends.stored.add(summary.stored, loadedAt);
    if (summary.rate !== null && rates.at(-1)?.[0] !== loadedAt) rates.push([loadedAt, summary.rate]);
    if (rates.length > SPARK_SAMPLES) rates.shift();
    drawSpark(this.spark, rates, 0);
    this.rate.show(rate(summary.rate), summary.count === 1 ? "1 stream" : `${summary.count} streams`, { unit: "/s" });
    this.stored.show(compact(summary.stored), inTheLast(trends.stored, compact));
  }

  showLag({ totalRecords, maxSeconds, standing, behind, partitions }) {
    const tone = standing > 0 ? "bad" : behind > 0 ? "warn" : "";
    const delay = totalRecords === 0 ? "Keeping up" : `${span(maxSeconds)} behind at most`;
    const moving = partitions.length === 0 ? "No partition is read" : delay;
    const note = standing === 0 ? moving : standing === 1 ? "1 partition stands still" : `${standing} partitions stand still`;
    this.lag.show(compact(totalRecords), note, { unit: totalRecords === 1 ? "record" : "records", tone });
  }

  showAlerts() {
    const summary = alertSummary(openAlerts.state.data);
    if (!summary) return;
    const { count, more, bySeverity } = summary;
    const worst = SEVERITIES.find((severity) => bySeverity.has(severity));
    const parts = SEVERITIES.filter((severity) => bySeverity.has(severity)).map((severity) => `${bySeverity.get(severity)} ${severity}`);
    const tone = count === 0 ? "" : ["critical", "high"].includes(worst) ? "bad" : "warn";
    this.alerts.show(whole(count) + (more ? "+" : ""), count === 0 ? quiet() : parts.join(", "), { tone });
  }

  showDead(total) {
    trends.dead.add(total);
    const grown = trends.dead.read()?.grown ?? 0;
    this.dead.show(compact(total), total === 0 ? "None so far" : inTheLast(trends.dead), { tone: grown > 0 ? "warn" : "" });
  }

  showRestarts({ actors, restarts, lastExit }, loadedAt) {
    trends.restarts.add(restarts, loadedAt);
    const grown = trends.restarts.read()?.grown ?? 0;
    const note = lastExit ? `last ${span((Date.now() - parseTime(lastExit.last_exit.at)) / 1000)} ago` : actors === 1 ? "1 actor" : `${whole(actors)} actors`;
    this.restarts.show(whole(restarts), note, { tone: grown > 0 ? "warn" : "" });
  }
}
