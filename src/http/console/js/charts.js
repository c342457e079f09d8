// Charts: one uPlot per sensor type (lowest to highest as a band, the mean as a line, anomalies as dots), and small SVG sparklines.
// Colours come from the style sheet, so that a chart follows the theme.
import { h, setText, svg } from "./dom.js";
import { digitsOf, fixed, measure, rate, titleCase, unitOf } from "./format.js";
import { onThemeChange } from "./theme.js";
import { WINDOW_S } from "./readings.js";
import { clock, hourMinute } from "./times.js";

const HEIGHT = 190;
const AXIS_FONT = "11px system-ui, sans-serif";
const KNOWN_INKS = ["temperature", "humidity", "pressure"];

const probe = document.body.appendChild(h("span", { hidden: true }));

/** The present value of a colour of the style sheet. */
function colour(name) {
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}

const inkOf = (type) => colour(KNOWN_INKS.includes(type) ? `ink-${type}` : "accent");

const faded = (colour, alpha) => colour.replace(/^rgb\(([^)]*)\)$/, (_, channels) => `rgba(${channels}, ${alpha})`);

/** A chart card for one sensor type; `draw(readings, sensorKey)` redraws it, `destroy()` frees it. */
export class TypeChart {
  constructor(type, { pinnedName = () => null } = {}) {
    this.type = type;
    this.pinnedName = pinnedName;
    this.plot = null;
    this.hovered = null;
    this.columns = [[], [], [], [], [], []];
    this.end = 0;
    this.build();
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.frame);
    this.dropThemeListener = onThemeChange(() => this.rebuild());
  }

  build() {
    this.big = h("span", { class: "chart-now" });
    this.detail = h("p", { class: "chart-detail" });
    this.frame = h("div", { class: "chart-frame", role: "img" });
    const unit = unitOf(this.type);
    this.element = h(
      "article",
      { class: "panel chart" },
      h("div", { class: "chart-head" }, h("h3", {}, titleCase(this.type), unit ? h("span", { class: "unit" }, ` ${unit}`) : ""), this.big),
      this.detail,
      this.frame,
    );
  }

  draw(readings, sensorKey = null) {
    this.columns = readings.columns(this.type, sensorKey);
    this.end = readings.now();
    this.rate = readings.rate(this.type);
    if (!this.plot) this.rebuild();
    else this.plot.setData(this.columns);
    this.describe();
  }

  /** The numbers above the plot: at the pointer, else the newest. */
  describe() {
    const [times, max, min, mean, , own] = this.columns;
    const at = this.hovered ?? lastWithValue(mean);
    if (at === null || at >= times.length) {
      setText(this.big, "");
      setText(this.detail, "No readings in the last 10 minutes");
      return;
    }
    const pinned = this.pinnedName();
    const ownValue = pinned && typeof own[at] === "number" ? `${pinned} ${fixed(own[at], digitsOf(this.type))}` : null;
    const range = typeof mean[at] !== "number" ? "no readings" : `${fixed(min[at], digitsOf(this.type))} to ${fixed(max[at], digitsOf(this.type))}`;
    const when = this.hovered === null ? `${rate(this.rate)}/s` : clock(times[at] * 1000);
    setText(this.big, measure(this.type, mean[at]));
    setText(this.detail, ["mean", range, ownValue, when].filter(Boolean).join(" · "));
    const label = `${titleCase(this.type)}, last 10 minutes: mean ${measure(this.type, mean[at])}, ${range}`;
    if (this.hovered === null) this.frame.setAttribute("aria-label", label);
  }

  resize() {
    const width = Math.floor(this.frame.clientWidth);
    if (this.plot && width > 0 && width !== this.plot.width) this.plot.setSize({ width, height: HEIGHT });
    else if (!this.plot) this.rebuild();
  }

  rebuild() {
    const width = Math.floor(this.frame.clientWidth);
    if (typeof uPlot === "undefined" || width === 0) return;
    this.plot?.destroy();
    this.plot = new uPlot(this.options(width), this.columns, this.frame);
  }

  options(width) {
    const colours = { ink: inkOf(this.type), grid: colour("line"), label: colour("muted"), alarm: colour("bad"), own: colour("text") };
    return {
      width,
      height: HEIGHT,
      padding: [8, 18, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, sync: { key: "readings" }, points: { size: 7 } },
      scales: {
        x: { time: true, range: () => [this.end - WINDOW_S, this.end] },
        y: { range: (_, low, high) => padded(low, high) },
      },
      axes: this.axes(colours),
      series: series(colours),
      bands: [{ series: [1, 2], fill: faded(colours.ink, 0.16) }],
      hooks: { setCursor: [(plot) => this.hover(plot.cursor.idx)] },
    };
  }

  axes({ grid, label }) {
    const common = { stroke: label, font: AXIS_FONT, ticks: { show: false }, grid: { stroke: grid, width: 1 } };
    return [
      { ...common, size: 24, gap: 4, space: 64, grid: { show: false }, values: (_, ticks) => ticks.map((at) => hourMinute(at * 1000)), incrs: [60, 120, 300] },
      { ...common, size: (_, ticks) => axisWidth(ticks), gap: 6, space: 36 },
    ];
  }

  hover(index) {
    this.hovered = index ?? null;
    this.describe();
  }

  destroy() {
    this.observer.disconnect();
    this.dropThemeListener();
    this.plot?.destroy();
  }
}

function series({ ink, alarm, own }) {
  const quiet = { stroke: "transparent", points: { show: false } };
  return [
    {},
    quiet,
    quiet,
    { stroke: ink, width: 1.75, points: { show: false } },
    { stroke: alarm, paths: () => null, points: { show: true, size: 5, fill: alarm, stroke: alarm } },
    { stroke: own, width: 1.75, points: { show: false } },
  ];
}

function padded(low, high) {
  if (low === null || high === null) return [0, 1];
  const room = Math.max((high - low) * 0.08, 0.5);
  return [low - room, high + room];
}

const axisWidth = (ticks) => 14 + 7 * Math.max(2, ...(ticks ?? []).map((tick) => tick.length));

function lastWithValue(values) {
  for (let at = values.length - 1; at >= 0; at -= 1) if (typeof values[at] === "number") return at;
  return null;
}

const SPARK = { width: 96, height: 22 };

/** An empty sparkline; `drawSpark` fills it. */
export const sparkline = () =>
  svg("svg", { class: "spark", viewBox: `0 0 ${SPARK.width} ${SPARK.height}`, preserveAspectRatio: "none", "aria-hidden": "true" }, svg("polyline"));

/** Draws `[x, y]` points into a sparkline, the newest at the right edge; `floor` is a value the scale always includes. */
export function drawSpark(element, points, floor = Number.POSITIVE_INFINITY) {
  const line = element.firstChild;
  if (points.length < 2) {
    line.setAttribute("points", "");
    return;
  }
  const ys = points.map(([, y]) => y);
  const [low, high] = [Math.min(floor, ...ys), Math.max(...ys)];
  const [from, to] = [points[0][0], points.at(-1)[0]];
  const place = ([x, y]) => {
    const across = ((x - from) / (to - from || 1)) * SPARK.width;
    const up = high === low ? 0.5 : (y - low) / (high - low);
    return `${across.toFixed(1)},${(SPARK.height - 2 - up * (SPARK.height - 4)).toFixed(1)}`;
  };
  line.setAttribute("points", points.map(place).join(" "));
}
