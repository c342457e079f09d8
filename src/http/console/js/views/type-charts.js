// The row of charts, one per sensor type that has sent something; before that, what would appear.
import { TypeChart } from "../charts.js";
import { code, empty, h, swap } from "../dom.js";
import { byType } from "../format.js";


export class TypeCharts {
  constructor(options = {}) {
    this.options = options;
    this.charts = new Map();
    this.grid = h("div", { class: "charts" });
    this.blank = h("div", {});
    this.element = h("div", {}, this.blank, this.grid);
  }

  /** Redraws the charts of `types` (default: all); of the sensor with `sensorKey`, its own line too. */
  draw(readings, { live, types = [...readings.types.keys()], sensorKey = null }) {
    const shown = types.filter((type) => readings.types.has(type)).sort(byType);
    for (const [type, chart] of this.charts) {
      if (shown.includes(type)) continue;
      chart.destroy();
      chart.element.remove();
      this.charts.delete(type);
    }
    for (const type of shown) {
      if (!this.charts.has(type)) this.charts.set(type, new TypeChart(type, this.options));
    }
    const elements = shown.map((type) => this.charts.get(type).element);
    if (elements.some((element, index) => this.grid.children[index] !== element)) this.grid.replaceChildren(...elements);
    for (const type of shown) this.charts.get(type).draw(readings, sensorKey);
    swap(this.blank, shown.length > 0 ? "charts" : `none ${live}`, () => (shown.length > 0 ? null : blank(live)));
  }

  destroy() {
    for (const chart of this.charts.values()) chart.destroy();
  }
}

const blank = (live) =>
  live
    ? empty("No readings yet.", "Charts appear with the first record on the topic ", code("sensor-readings"), ". Start the server without ", code("--no-simulators"), ", or produce readings of your own.")
    : empty("Waiting for the live feed.", "Charts appear as soon as the connection to ", code("/ws/sensors"), " stands.");

export const legend = () =>
  h(
    "ul",
    { class: "legend", "aria-label": "Legend" },
    h("li", {}, h("span", { class: "key line", "aria-hidden": "true" }), "mean"),
    h("li", {}, h("span", { class: "key band", "aria-hidden": "true" }), "lowest to highest"),
    h("li", {}, h("span", { class: "key dot", "aria-hidden": "true" }), "anomaly"),
  );
