// Things polled from the API. A resource polls while somebody subscribes to it, keeps its last good data when a poll fails,
// slows down while the server is unreachable, and rests while the page is hidden or paused.
import { get } from "./api.js";
import { EventShaper, lagShape, StreamShaper } from "./shapes.js";

const EVERY_MS = 2000;
const SLOWEST_MS = 15_000;

const active = new Set();
const outcomeListeners = new Set();
let paused = false;

class Resource {
  /** `shape.everyMs` is the time between polls, `shape.path(base)` may add to the address, `shape.take(body)` turns an answer into the data, `shape.lost()` hears of a failed poll, `shape.push(item)` adds what came between two polls. */
  constructor(path, shape = {}) {
    this.path = path;
    this.shape = shape;
    this.state = { data: null, error: null, loadedAt: null };
    this.listeners = new Set();
    this.timer = null;
    this.soon = null;
    this.loading = false;
    this.failures = 0;
  }

  /** Calls `listener(state)` at once and after every poll, until the returned function is called. */
  subscribe(listener) {
    this.listeners.add(listener);
    if (!active.has(this)) {
      active.add(this);
      this.load();
    }
    listener(this.state);
    return () => {
      this.listeners.delete(listener);
      if (this.listeners.size > 0) return;
      active.delete(this);
      clearTimeout(this.timer);
      this.state = { ...this.state, error: null };
      announceOutcomes();
    };
  }

  /** Takes what a live feed brought; asks the API where the feed left something out. */
  push(item) {
    const data = this.shape.push(item);
    if (data === null) {
      this.load();
      return;
    }
    this.state = { ...this.state, data };
    for (const listener of this.listeners) listener(this.state);
  }

  /** Forgets what it has, and asks for all of it again. */
  restart() {
    this.shape.lost?.();
    return this.load();
  }

  /** Loads soon: once, however often it is asked for within `withinMs`. */
  loadSoon(withinMs) {
    this.soon ??= setTimeout(() => {
      this.soon = null;
      if (active.has(this)) this.load();
    }, withinMs);
  }

  async load() {
    clearTimeout(this.timer);
    if (this.loading) return;
    this.loading = true;
    try {
      const body = await get(this.shape.path?.(this.path) ?? this.path);
      this.state = { data: this.shape.take?.(body) ?? body, error: null, loadedAt: Date.now() };
      this.failures = 0;
    } catch (error) {
      this.shape.lost?.();
      this.state = { ...this.state, error };
      this.failures += 1;
    }
    this.loading = false;
    if (!active.has(this)) return;
    for (const listener of this.listeners) listener(this.state);
    announceOutcomes();
    this.schedule();
  }

  schedule() {
    const wait = Math.min((this.shape.everyMs ?? EVERY_MS) * 2 ** Math.min(this.failures, 3), SLOWEST_MS);
    this.timer = setTimeout(() => (paused || document.hidden ? this.schedule() : this.load()), wait);
  }
}

function announceOutcomes() {
  const errors = [...active].map((resource) => resource.state.error).filter((error) => error !== null);
  for (const listener of outcomeListeners) listener(errors, active.size);
}

/** Calls `listener(errors, asked)` after every poll: the current error of each failing resource, and how many are polled. */
export const onOutcomes = (listener) => outcomeListeners.add(listener);

export const refreshAll = () => Promise.all([...active].map((resource) => resource.load()));

export function setPollingPaused(next) {
  paused = next;
  if (!paused) refreshAll();
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && !paused) refreshAll();
});

export const resource = (path, shape) => new Resource(path, shape);

export const streams = resource("/api/v1/streams", new StreamShaper());
export const lag = resource("/api/v1/lag", { take: lagShape });
export const standingStill = resource("/api/v1/standing-still");
export const tree = resource("/api/v1/supervision/tree");
export const events = resource("/api/v1/events", new EventShaper());
export const openAlerts = resource("/api/v1/alerts?state=firing&limit=100");
export const newestDeadLetter = resource("/api/v1/dead-letters?limit=1");
