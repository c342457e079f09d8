// Overview: is everything flowing? Six figures, a chart per sensor type, the streams with their lag, the latest values.
import { h, panel } from "../dom.js";
import { legend, TypeCharts } from "./type-charts.js";
import { LatestTable } from "./latest.js";
import { StreamsTable } from "./streams.js";
import { Tiles } from "./tiles.js";

export const title = "Overview";

export function mount(slot, { readings, isLive }) {
  const tiles = new Tiles();
  const charts = new TypeCharts();
  const streams = new StreamsTable();
  const latest = new LatestTable();
  slot.append(
    tiles.element,
    h("section", { class: "block", "aria-labelledby": "charts-title" }, h("div", { class: "block-head" }, h("h2", { id: "charts-title" }, "Sensors, last 10 minutes"), legend()), charts.element),
    h("div", { class: "columns" }, panel("Streams and lag", {}, streams.element), panel("Latest values", { aside: h("a", { href: "#/sensors", class: "aside-link" }, "All sensors") }, latest.element)),
  );
  const stops = [...tiles.start(), ...streams.start()];
  return {
    redraw() {
      charts.draw(readings, { live: isLive() });
      latest.draw(readings);
    },
    unmount() {
      for (const stop of stops) stop();
      charts.destroy();
    },
  };
}
