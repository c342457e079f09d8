// The readings of the stream `sensors`, for as long as the server has it: the live feed, and what is stored already.
import { get } from "./api.js";
import { LiveFeed } from "./live.js";
import { resource, streams } from "./resources.js";

const STREAM = "sensors";
const CONNECTING = { state: "connecting", retryAt: null };
/** Pages of 500 stored readings with which the charts begin. */
const MAX_SEED_PAGES = 20;

export class SensorFeed {
  /** `onChange()` hears of a new state of the feed, `onPresence()` whether there is such a stream, `onReadings()` of readings that were stored before. */
  constructor(readings, { onChange, onPresence, onReadings }) {
    this.readings = readings;
    this.listeners = { onChange, onPresence, onReadings };
    /** Null while nobody knows. */
    this.isThere = null;
    /** `{state, retryAt}`; null where there is no such stream. */
    this.state = CONNECTING;
    this.counts = { frames: 0, reconnects: 0 };
    this.feed = null;
    this.stopSeed = () => {};
  }

  /** Follows whether there is such a stream. */
  start() {
    streams.subscribe(({ data }) => data && this.setPresence(data.streams.some(({ name }) => name === STREAM)));
  }

  setPresence(isThere) {
    if (isThere === this.isThere) return;
    this.isThere = isThere;
    if (isThere) this.open();
    else this.close();
    this.listeners.onPresence();
  }

  open() {
    this.state = CONNECTING;
    this.feed = new LiveFeed(`/ws/${STREAM}`, {
      onFrame: (frame) => {
        this.counts.frames += 1;
        this.readings.addFrame(frame);
      },
      onState: (state) => {
        if (state.state !== "live" && this.state.state === "live") this.counts.reconnects += 1;
        this.state = state;
        this.listeners.onChange();
      },
    });
    this.feed.connect();
    this.seed();
  }

  close() {
    this.feed?.close();
    this.stopSeed();
    this.feed = null;
    this.state = null;
  }

  /** Tries again at once instead of waiting for the back-off. */
  reconnectNow() {
    this.feed?.reconnectNow();
  }

  /** Fills the charts with what is stored already, so that they do not start empty. */
  seed() {
    const latest = resource("/api/v1/sensors/latest?limit=100");
    const stop = latest.subscribe(({ data }) => {
      if (!data) return;
      for (const reading of [...(data.readings ?? [])].reverse()) this.readings.add(reading);
      queueMicrotask(() => stop());
      this.listeners.onReadings();
      this.backfill(data.next);
    });
    this.stopSeed = stop;
  }

  /** Older readings, page by page, until the charts are full. What fails here is missing in the charts and nowhere else. */
  async backfill(cursor) {
    try {
      for (let page = 0; cursor && page < MAX_SEED_PAGES; page += 1) {
        const { records, next } = await get(`/api/v1/streams/${STREAM}/latest?limit=500&cursor=${encodeURIComponent(cursor)}`);
        const drawn = records.reverse().filter((reading) => this.readings.add(reading)).length;
        this.listeners.onReadings();
        cursor = drawn === records.length ? next : null;
      }
    } catch (error) {
      console.warn("older readings are not drawn", error);
    }
  }
}
