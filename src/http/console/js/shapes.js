// From the API's answers to what the page shows: sums, rates and the growing list of events. No page, no network.

const RATE_OVER_MS = 10_000;
/** As many as the server keeps. */
const MAX_EVENTS = 1000;
const EVENTS_A_POLL = 500;

/**
 * What is wrong with the server, by its own judgement: `{ready, findings, reasons, isWhole}`. `findings` stand still; `reasons` say what
 * else keeps it from being ready.
 */
export function healthShape({ ready: said, reasons = [], standing_still: findings = [] }) {
  const ready = said === true;
  const isFound = (reason) => findings.some(({ actor }) => reason.startsWith(`${actor} is `));
  return { ready, findings, reasons: reasons.filter((reason) => !isFound(reason)), isWhole: ready && findings.length === 0 };
}

/** Lag of all partitions, with the sum of records, the longest delay, how many stand still and how many are further behind than the server takes for usual. */
export function lagShape(body) {
  const partitions = body.lag ?? [];
  return {
    partitions,
    totalRecords: partitions.reduce((total, partition) => total + (partition.lag_records ?? 0), 0),
    maxSeconds: partitions.reduce((most, partition) => Math.max(most, partition.lag_seconds ?? 0), 0),
    standing: partitions.filter((partition) => partition.state === "standing_still").length,
    behind: partitions.filter((partition) => partition.behind).length,
  };
}

/** Streams with `rate`: records settled (stored, dead or filtered) per second, by how their totals grow between polls. */
export class StreamShaper {
  constructor() {
    this.samples = new Map();
  }

  take(body, now = Date.now()) {
    return { streams: (body.streams ?? []).map((stream) => ({ ...stream, rate: this.rate(stream, now) })) };
  }

  rate(stream, now) {
    const total = (stream.stored ?? 0) + (stream.dead ?? 0) + (stream.filtered ?? 0);
    let samples = this.samples.get(stream.name) ?? [];
    if (samples.length > 0 && total < samples.at(-1).total) samples = [];
    samples.push({ total, now });
    while (samples.length > 2 && samples[1].now <= now - RATE_OVER_MS) samples.shift();
    this.samples.set(stream.name, samples);
    const first = samples[0];
    return now > first.now ? (total - first.total) / ((now - first.now) / 1000) : null;
  }
}

/** The newest events. The API lists them from the oldest on, so each poll asks for those after the last one seen. */
export class EventShaper {
  constructor() {
    this.events = [];
    this.after = 0;
  }

  path(base) {
    return `${base}?after=${this.after}&limit=${EVENTS_A_POLL}`;
  }

  take(body) {
    const fresh = (body.events ?? []).filter((event) => event.seq > this.after);
    this.events = [...this.events, ...fresh].slice(-MAX_EVENTS);
    this.after = this.events.at(-1)?.seq ?? this.after;
    return { events: this.events };
  }

  /** One event that came without a poll; null where others before it are missing. */
  push(event) {
    if (event.seq > this.after + 1) return null;
    return this.take({ events: [event] });
  }

  /** A server that was away may have started anew, and counts from one again. */
  lost() {
    this.events = [];
    this.after = 0;
  }
}
