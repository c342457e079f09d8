// The last ten minutes of readings, in buckets of two seconds: bounded memory at any rate. Pure bookkeeping, no page, no network.
// Time is the readings' own event time; the window's end follows the server's clock.
import { parseTime } from "./times.js";
import { SensorWindow, TypeWindow } from "./windows.js";

export const WINDOW_S = 600;
const BUCKET_S = 2;
const BUCKETS = WINDOW_S / BUCKET_S + 1;
const MAX_SENSORS = 1000;
const MAX_TYPES = 8;
const RATE_S = 10;
/** Readings further ahead of the server's clock than this are not drawn: they would push everything else out. */
const AHEAD_S = 60;
/** A line breaks where no reading came for this long. */
const BREAK_S = 15;

export class Readings {
  constructor() {
    this.types = new Map();
    this.sensors = new Map();
    this.arrivals = new Map();
    this.clockAheadMs = 0;
    this.accepted = 0;
    this.outside = 0;
    this.overLimit = 0;
    this.gaps = 0;
  }

  /** The server's time in seconds, by its last frame. */
  now() {
    return (Date.now() + this.clockAheadMs) / 1000;
  }

  addFrame(frame) {
    if (frame.type === "gap") this.gaps += Number(frame.dropped) || 0;
    if (frame.type !== "sensor_reading" || !frame.data) return;
    const received = parseTime(frame.received_at);
    if (Number.isFinite(received)) this.clockAheadMs = received - Date.now();
    if (this.add(frame.data)) this.arrived(frame.data.sensor_type);
  }

  /** Takes one reading in; false when it cannot be drawn (no number, outside the window, too many sensors). */
  add(reading) {
    const time = parseTime(reading.timestamp) / 1000;
    if (typeof reading.value !== "number" || !Number.isFinite(time)) return false;
    const now = this.now();
    if (time < now - WINDOW_S || time > now + AHEAD_S) {
      this.outside += 1;
      return false;
    }
    const type = this.typeWindow(String(reading.sensor_type));
    const sensor = this.sensorWindow(reading);
    if (!type || !sensor) {
      this.overLimit += 1;
      return false;
    }
    const slot = Math.floor(time / BUCKET_S);
    type.add(slot, reading.value, reading.anomaly === true);
    sensor.add(slot, reading, time);
    this.accepted += 1;
    return true;
  }

  typeWindow(type) {
    if (!this.types.has(type) && this.types.size < MAX_TYPES) this.types.set(type, new TypeWindow(BUCKETS));
    return this.types.get(type);
  }

  sensorWindow(reading) {
    const key = `${reading.sensor_id}\u0000${reading.sensor_type}`;
    if (!this.sensors.has(key) && this.sensors.size < MAX_SENSORS) this.sensors.set(key, new SensorWindow(key, reading, BUCKETS));
    return this.sensors.get(key);
  }

  arrived(type) {
    const second = Math.floor(Date.now() / 1000);
    const arrivals = this.arrivals.get(type) ?? { seconds: new Float64Array(RATE_S + 1), counts: new Uint32Array(RATE_S + 1) };
    const at = second % (RATE_S + 1);
    if (arrivals.seconds[at] !== second) {
      arrivals.seconds[at] = second;
      arrivals.counts[at] = 0;
    }
    arrivals.counts[at] += 1;
    this.arrivals.set(type, arrivals);
  }

  /** Readings per second that reached this page, over the last ten whole seconds. */
  rate(type) {
    const arrivals = this.arrivals.get(type);
    if (!arrivals) return 0;
    const second = Math.floor(Date.now() / 1000);
    let total = 0;
    arrivals.seconds.forEach((at, index) => {
      if (at < second && at >= second - RATE_S) total += arrivals.counts[index];
    });
    return total / RATE_S;
  }

  /** Columns for a chart of `type`: time in seconds, highest, lowest and mean of the ordinary
   * readings, an anomaly, and, of one sensor, its own values. */
  columns(type, sensorKey = null) {
    const window = this.types.get(type);
    const out = [[], [], [], [], [], []];
    if (!window) return out;
    const sensor = this.sensors.get(sensorKey);
    // The bucket of this moment still fills: its mean would be that of the first few sensors.
    const newest = Math.floor(this.now() / BUCKET_S) - 1;
    let previous = null;
    for (let slot = newest - BUCKETS + 1; slot <= newest; slot += 1) {
      const at = slot % BUCKETS;
      if (window.slots[at] !== slot) continue;
      if (previous !== null && (slot - previous) * BUCKET_S > BREAK_S) pushRow(out, (previous + 1) * BUCKET_S, null);
      const own = sensor && sensor.slots[at] === slot ? sensor.values[at] : undefined;
      const [max, min, mean] = window.count[at] > 0 ? [window.max[at], window.min[at], window.sum[at] / window.count[at]] : [];
      pushRow(out, slot * BUCKET_S, [max, min, mean, orNull(window.anomaly[at]), own]);
      previous = slot;
    }
    return out;
  }

  /** One sensor's values, oldest first, for a sparkline. */
  trace(sensor) {
    const oldest = Math.floor((this.now() - WINDOW_S) / BUCKET_S);
    const points = [];
    for (let index = 0; index < BUCKETS; index += 1) {
      if (sensor.slots[index] >= oldest) points.push([sensor.slots[index], sensor.values[index]]);
    }
    return points.sort((a, b) => a[0] - b[0]);
  }

  points() {
    let total = 0;
    for (const type of this.types.keys()) total += this.columns(type)[0].length;
    return total;
  }
}

const orNull = (value) => (Number.isNaN(value) ? null : value);

function pushRow(out, time, values) {
  out[0].push(time);
  for (let column = 1; column < out.length; column += 1) out[column].push(values === null ? null : values[column - 1]);
}
