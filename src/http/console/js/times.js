// Times as people read them: in the browser's zone or in UTC, which the browser remembers. They come in as text or epoch milliseconds.
import { h, icon, setText } from "./dom.js";
import { NONE, span } from "./format.js";

const KEY = "streamward.zone";
const UTC = "UTC";

let isUtc = remembered();
const listeners = new Set();

function formats(timeZone) {
  const clock = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23", timeZone };
  const day = { month: "short", day: "numeric", timeZone };
  return {
    clock: new Intl.DateTimeFormat(undefined, clock),
    minutes: new Intl.DateTimeFormat(undefined, { ...clock, second: undefined }),
    day: new Intl.DateTimeFormat(undefined, day),
    dayOfYear: new Intl.DateTimeFormat(undefined, { ...day, year: "numeric" }),
    date: new Intl.DateTimeFormat("en-CA", { year: "numeric", month: "2-digit", day: "2-digit", timeZone }),
  };
}

const LOCAL_FORMATS = formats(undefined);
const UTC_FORMATS = formats(UTC);
const chosen = () => (isUtc ? UTC_FORMATS : LOCAL_FORMATS);

function remembered() {
  try {
    return localStorage.getItem(KEY) === UTC;
  } catch {
    return false;
  }
}

function remember() {
  try {
    if (isUtc) localStorage.setItem(KEY, UTC);
    else localStorage.removeItem(KEY);
  } catch {
    // Without storage the choice holds until the page is closed.
  }
}

/** Epoch milliseconds of an RFC 3339 time (without an offset: UTC) or of a number that already is one; NaN if it is neither. */
export function parseTime(value) {
  if (typeof value === "number") return value;
  if (typeof value !== "string") return Number.NaN;
  return Date.parse(/(?:Z|[+-]\d\d:?\d\d)$/i.test(value) ? value : `${value}Z`);
}

const localZone = () => LOCAL_FORMATS.clock.resolvedOptions().timeZone;

/** Which zone times are in, as a sentence. */
export const zoneNote = () => (isUtc ? `Times are UTC; local ones (${localZone()}) are in their tooltips.` : `Times are local (${localZone()}); UTC is in their tooltips.`);

export const clock = (ms) => (Number.isFinite(ms) ? chosen().clock.format(ms) : NONE);
export const hourMinute = (ms) => chosen().minutes.format(ms);

/** The time of day, with the day when it is not today's, and with the year when it is not the present one. */
function written(ms, { clock: timeOfDay, day, dayOfYear, date }) {
  const [today, that] = [date.format(Date.now()), date.format(ms)];
  if (that === today) return timeOfDay.format(ms);
  const isThisYear = that.split("-")[0] === today.split("-")[0];
  return `${(isThisYear ? day : dayOfYear).format(ms).replaceAll(" ", "\u00a0")} ${timeOfDay.format(ms)}`;
}

const utc = (ms) => `${new Date(ms).toISOString().replace("T", " ").replace("Z", "")} UTC`;

/** "3 min ago", "in 3 min". */
function distance(ms) {
  const seconds = (Date.now() - ms) / 1000;
  return seconds >= 0 ? `${span(seconds)} ago` : `in ${span(-seconds)}`;
}

export const timeElement = () => h("time");

/** Fills a `<time>`: the time in the text, its distance from now and other zones in the title. With `ago`, the distance is the text. */
export function setTime(element, value, { ago = false } = {}) {
  const ms = parseTime(value);
  if (!Number.isFinite(ms)) {
    element.removeAttribute("datetime");
    element.removeAttribute("title");
    setText(element, NONE);
    return;
  }
  element.dateTime = new Date(ms).toISOString();
  element.toggleAttribute("data-ago", ago);
  setTitle(element, ms, ago);
  setText(element, ago ? distance(ms) : written(ms, chosen()));
}

function setTitle(element, ms, ago) {
  const parts = [ago ? written(ms, chosen()) : distance(ms), utc(ms), isUtc ? `${written(ms, LOCAL_FORMATS)} ${localZone()}` : null];
  element.title = parts.filter(Boolean).join(" · ");
}

export function timeOf(value, options) {
  const element = timeElement();
  setTime(element, value, options);
  return element;
}

const repaint = (element) => setTime(element, element.dateTime, { ago: element.hasAttribute("data-ago") });

/** Calls `listener` when the zone is switched. */
export const onZoneChange = (listener) => listeners.add(listener);

/** Makes `button` the switch between local times and UTC. */
export function startZone(button) {
  const paint = () => {
    button.replaceChildren(icon("clock"), isUtc ? "Local" : "UTC", h("span", { class: "rest" }, " times"));
    button.setAttribute("aria-label", isUtc ? "Show local times" : "Show UTC times");
  };
  button.addEventListener("click", () => {
    isUtc = !isUtc;
    remember();
    paint();
    for (const element of document.querySelectorAll("time[datetime]")) repaint(element);
    for (const listener of listeners) listener();
  });
  // A title says how long ago a time is: it is written when it is about to be read.
  document.addEventListener("pointerover", ({ target }) => {
    const element = target.closest?.("time[datetime]");
    if (element) setTitle(element, parseTime(element.dateTime), element.hasAttribute("data-ago"));
  });
  paint();
}
