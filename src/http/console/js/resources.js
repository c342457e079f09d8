// Things polled from the API. A resource polls while somebody subscribes to it, keeps its last good data when a poll fails,
// slows down while polls fail, rests while the server does not answer, the page is hidden or paused, and polls at once when the server is
// back.
import { get } from "./api.js";
import { isAway, noteSilence, onAway, onBack } from "./connection.js";
import { EventShaper, healthShape, lagShape, StreamShaper } from "./shapes.js";

const EVERY_MS = 2000;
const SLOWEST_MS = 15_000;
/** Kinds of errors after which nobody knows whether the server still answers. */
const SILENT = ["unreachable", "failed"];

const active = new Set();
const outcomeListeners = new Set();
let paused = false;

const isResting = () => paused || document.hidden;

class Resource {
  /** `shape.everyMs` is the time between polls, `shape.path(base)` may add to the address, `shape.take(body)` turns an answer into the data, `shape.lost()` hears of a failed poll, `shape.push(item)` adds what came between two polls, `shape.alsoGood` is a status of which the body is an answer as well. */
  constructor(path, shape = {}) {
    this.path = path;
    this.shape = shape;
    this.state = { data: null, error: null, loadedAt: null };
    this.listeners = new Set();
    this.timer = null;
    this.soon = null;
    this.loading = false;
    this.turn = 0;
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

  /** Loads now; what is still under way is not waited for. */
  reload() {
    this.loading = false;
    return this.load();
  }

  async load() {
    clearTimeout(this.timer);
    if (this.loading) return;
    this.loading = true;
    const turn = (this.turn += 1);
    const { body, error } = await this.ask();
    if (turn !== this.turn) return;
    this.loading = false;
    if (error) this.fail(error);
    else this.succeed(body);
    if (!active.has(this)) return;
    for (const listener of this.listeners) listener(this.state);
    announceOutcomes();
    this.schedule();
  }

  async ask() {
    try {
      return { body: await get(this.shape.path?.(this.path) ?? this.path, { alsoGood: this.shape.alsoGood }) };
    } catch (error) {
      return { error };
    }
  }

  succeed(body) {
    this.state = { data: this.shape.take?.(body) ?? body, error: null, loadedAt: Date.now() };
    this.failures = 0;
  }

  fail(error) {
    this.shape.lost?.();
    this.state = { ...this.state, error };
    this.failures += 1;
    if (SILENT.includes(error.kind)) noteSilence();
  }

  /** What failed while the server was away says nothing about the server that is back. */
  forgive() {
    this.state = { ...this.state, error: null };
    this.failures = 0;
  }

  schedule() {
    const wait = Math.min((this.shape.everyMs ?? EVERY_MS) * 2 ** Math.min(this.failures, 3), SLOWEST_MS);
    this.timer = setTimeout(() => (isResting() || isAway() ? this.schedule() : this.load()), wait);
  }
}

function announceOutcomes() {
  const errors = [...active].map((resource) => resource.state.error).filter((error) => error !== null);
  for (const listener of outcomeListeners) listener(errors, isAway());
}

/** Calls `listener(errors, isAway)` after every poll: the current error of each failing resource, and whether the server is away. */
export const onOutcomes = (listener) => outcomeListeners.add(listener);

export const refreshAll = () => Promise.all([...active].map((resource) => resource.reload()));

const refreshUnlessResting = () => isResting() || refreshAll();

export function setPollingPaused(next) {
  paused = next;
  refreshUnlessResting();
}

document.addEventListener("visibilitychange", refreshUnlessResting);
onAway(announceOutcomes);
onBack(() => {
  for (const resource of active) resource.forgive();
  announceOutcomes();
  refreshUnlessResting();
});

export const resource = (path, shape) => new Resource(path, shape);

export const streams = resource("/api/v1/streams", new StreamShaper());
export const lag = resource("/api/v1/lag", { take: lagShape });
export const health = resource("/health/ready", { take: healthShape, alsoGood: 503 });
export const tree = resource("/api/v1/supervision/tree");
export const events = resource("/api/v1/events", new EventShaper());
export const openAlerts = resource("/api/v1/alerts?state=firing&limit=100");
export const newestDeadLetter = resource("/api/v1/dead-letters?limit=1");
