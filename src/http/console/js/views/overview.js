// Overview: is everything flowing? Six figures and the streams with their lag; where there are sensors, also a chart per type and the
// latest values.
import { h, panel } from "../dom.js";
import { LatestTable } from "./latest.js";
import { StreamsTable } from "./streams.js";
import { Tiles } from "./tiles.js";
import { legend, TypeCharts } from "./type-charts.js";

export const title = "Overview";

export function mount(slot, { readings, isLive, hasSensors }) {
  const tiles = new Tiles();
  const streams = new StreamsTable();
  const sensors = hasSensors ? new SensorParts() : null;
  slot.append(tiles.element, ...(sensors ? sensors.around(streams.element) : [panel("Streams and lag", {}, streams.element)]));
  const stops = [...tiles.start(), ...streams.start()];
  return {
    redraw: () => sensors?.draw(readings, isLive()),
    unmount() {
      for (const stop of stops) stop();
      sensors?.charts.destroy();
    },
  };
}

class SensorParts {
  constructor() {
    this.charts = new TypeCharts();
    this.latest = new LatestTable();
  }

  /** Everything below the tiles, with the table of streams in its place. */
  around(streams) {
    const head = h("div", { class: "block-head" }, h("h2", { id: "charts-title" }, "Sensors, last 10 minutes"), legend());
    return [
      h("section", { class: "block", "aria-labelledby": "charts-title" }, head, this.charts.element),
      h("div", { class: "columns" }, panel("Streams and lag", {}, streams), panel("Latest values", { aside: h("a", { href: "#/sensors", class: "aside-link" }, "All sensors") }, this.latest.element)),
    ];
  }

  draw(readings, live) {
    this.charts.draw(readings, { live });
    this.latest.draw(readings);
  }
}
