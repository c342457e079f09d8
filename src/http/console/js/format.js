// Numbers, units and bytes as people read them; times are in `times.js`. Nothing here touches the page or the network.

export const NONE = "–";

const UNITS = { temperature: "°C", humidity: "%", pressure: "hPa" };
const DIGITS = { temperature: 1, humidity: 1, pressure: 1 };

const TYPE_ORDER = ["temperature", "humidity", "pressure"];
const rank = (type) => (TYPE_ORDER.includes(type) ? TYPE_ORDER.indexOf(type) : TYPE_ORDER.length);

/** Sorts sensor types: the known ones in their usual order, then the others by name. */
export const byType = (a, b) => rank(a) - rank(b) || a.localeCompare(b);

export const unitOf = (type) => UNITS[type] ?? "";
export const digitsOf = (type) => DIGITS[type] ?? 2;
export const titleCase = (text) => text.charAt(0).toUpperCase() + text.slice(1).replaceAll("_", " ");

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

export const fixed = (value, digits) =>
  isNumber(value) ? value.toLocaleString(undefined, { minimumFractionDigits: digits, maximumFractionDigits: digits }) : NONE;

export const whole = (value) => (isNumber(value) ? Math.round(value).toLocaleString() : NONE);

/** A large count in few characters: 9,999 stays, 1,250,000 is "1.25 M". */
export function compact(value) {
  if (!isNumber(value)) return NONE;
  for (const [size, suffix] of [[1e9, " G"], [1e6, " M"]]) {
    if (value >= size) return fixed(value / size, value >= size * 100 ? 1 : 2) + suffix;
  }
  return whole(value);
}

/** A size in bytes with the unit that keeps it short: "812 B", "1.5 MiB". */
export function bytes(value) {
  if (!isNumber(value)) return NONE;
  for (const [size, unit] of [[2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]]) {
    if (value >= size) return `${fixed(value / size, value >= size * 100 ? 0 : 1)} ${unit}`;
  }
  return `${whole(value)} B`;
}

export const rate = (value) => (isNumber(value) ? fixed(value, value < 100 ? 1 : 0) : NONE);

export const measure = (type, value) => `${fixed(value, digitsOf(type))}${UNITS[type] ? ` ${UNITS[type]}` : ""}`;

/** A span of time, in the largest unit that keeps it readable: "0.4 s", "3 min", "2 h 5 min". */
export function span(seconds) {
  if (!isNumber(seconds)) return NONE;
  const s = Math.max(0, seconds);
  if (s < 10) return `${fixed(s, 1)} s`;
  if (s < 90) return `${Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 172_800) return `${Math.floor(s / 3600)} h ${Math.round((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.round((s % 86_400) / 3600)} h`;
}

/** A short span, of whole milliseconds: "40 ms", then as `span`. */
export const millis = (ms) => (isNumber(ms) && ms < 1000 ? `${Math.round(ms)} ms` : span(ms / 1000));

/** A very short span, of microseconds: "85 µs", "1.2 ms", "40 ms". */
export function micros(us) {
  if (!isNumber(us) || us >= 10_000) return millis(us / 1000);
  return us < 1000 ? `${Math.round(us)} µs` : `${fixed(us / 1000, 1)} ms`;
}

const SEVERITY_TONES = { critical: "bad", high: "bad", error: "bad", warning: "warn", medium: "warn", info: "info", low: "info" };
export const severityTone = (severity) => SEVERITY_TONES[severity] ?? "quiet";

/** Bytes of base64 text; null when it is not base64. */
export function fromBase64(text) {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    return null;
  }
}

/** A classic hex dump of at most `limit` bytes, 16 a line. */
export function hexDump(bytes, limit = 512) {
  const lines = [];
  for (let at = 0; at < Math.min(bytes.length, limit); at += 16) {
    const row = [...bytes.slice(at, Math.min(at + 16, limit))];
    const hex = row.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const text = row.map((byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : ".")).join("");
    lines.push(`${at.toString(16).padStart(4, "0")}  ${hex.padEnd(47)}  ${text}`);
  }
  if (bytes.length > limit) lines.push(`… ${whole(bytes.length - limit)} more bytes`);
  return lines.join("\n");
}

/** A header's value as text where it is UTF-8, else as hex. */
export function headerText(base64) {
  const bytes = fromBase64(base64 ?? "");
  if (!bytes) return base64;
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
  }
}
