// Start here: the page's frame. It routes by the address's hash, keeps the navigation's counts, and mounts one view at a time. A view
// is `{title, mount(slot, context) → {unmount, redraw?}}`; what follows its name in the address is in `context.path` and `context.query`,
// if `takesPath` says that there may be something; `titleOf(path)` may name it. A view that finds nothing at its path calls
// `context.notFound`.
import { showBanner } from "./banner.js";
import { isAway } from "./connection.js";
import { h, icon, setText } from "./dom.js";
import { whole } from "./format.js";
import { watchHealth } from "./health.js";
import { toneOf } from "./lifecycle.js";
import { pillOf } from "./pill.js";
import { Readings } from "./readings.js";
import { health, newestDeadLetter, onOutcomes, openAlerts, refreshAll, setPollingPaused, tree } from "./resources.js";
import { SensorFeed } from "./sensor-feed.js";
import { alertSummary, flatten, restartSummary } from "./summary.js";
import { startTheme } from "./theme.js";
import { onZoneChange, startZone, zoneNote } from "./times.js";
import * as alerts from "./views/alerts.js";
import * as deadLetters from "./views/dead-letters.js";
import { notFound } from "./views/not-found.js";
import * as overview from "./views/overview.js";
import * as sensors from "./views/sensors.js";
import * as supervision from "./views/supervision.js";
import * as topics from "./views/topics.js";

const VIEWS = { overview, sensors, topics, alerts, "dead-letters": deadLetters, supervision };
/** Views of the stream `sensors`: without it they are others, or none. */
const OF_SENSORS = ["overview", "sensors"];
const OVERVIEW = { href: "#/overview", text: "Overview" };
const REDRAW_MS = 1000;
const byId = (id) => document.getElementById(id);

const readings = new Readings();
let redraws = 0;
let paused = false;
/** Counts the views shown. */
let shown = 0;
let unmount = () => {};
let redraw = () => {};

const sensorFeed = new SensorFeed(readings, {
  onChange: () => paintPill(),
  onPresence: () => {
    paintPill();
    buildNav();
    if (OF_SENSORS.includes(place().name)) route(null);
    else markCurrent(place().name);
  },
  onReadings: () => redraw(),
});

/** Counts stay where they are when the menu is built anew. */
function buildNav() {
  const items = Object.entries(VIEWS)
    .filter(([name]) => name !== "sensors" || sensorFeed.isThere)
    .map(([name, view]) => byId(`count-${name}`)?.closest("li") ?? h("li", {}, h("a", { href: `#/${name}` }, icon(name), h("span", {}, view.title), h("span", { class: "count", id: `count-${name}`, hidden: true }))));
  byId("nav").replaceChildren(...items);
}

function setCount(name, text, { quiet, label }) {
  const element = byId(`count-${name}`);
  element.hidden = text === "";
  element.className = quiet ? "count quiet" : "count";
  element.replaceChildren(text, h("span", { class: "unseen" }, ` ${label}`));
}

/** What the address asks for. */
function place() {
  const [address, query = ""] = location.hash.replace(/^#\//, "").split("?");
  const [name, ...rest] = (address || "overview").split("/");
  return { name: decoded(name), path: decoded(rest.join("/")), query: new URLSearchParams(query) };
}

/** The view at a place. */
function viewAt({ name, path }) {
  const view = Object.hasOwn(VIEWS, name) ? VIEWS[name] : null;
  if (!view) return notFound(`There is no page ${name}.`, OVERVIEW);
  if (path && !view.takesPath) return notFound(`There is no page ${name}/${path}.`, { href: `#/${name}`, text: view.title });
  if (name === "sensors" && !sensorFeed.isThere) {
    return sensorFeed.isThere === null ? LOADING : notFound("This server has no stream named sensors.", OVERVIEW);
  }
  return view;
}

const LOADING = { title: "Loading", mount: () => ({ unmount: () => {} }) };

function markCurrent(name) {
  for (const link of byId("nav").querySelectorAll("a")) {
    if (link.hash === `#/${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function route(event) {
  const to = place();
  markCurrent(to.name);
  show(viewAt(to), to);
  if (event) {
    scrollTo(0, 0);
    byId("title").focus();
  }
}

function show(view, { path, query }) {
  const turn = (shown += 1);
  unmount();
  byId("view").replaceChildren();
  const title = view.titleOf?.(path) ?? view.title;
  setText(byId("title"), title);
  document.title = `${title} · Streamward`;
  const context = {
    readings,
    path,
    query,
    hasSensors: sensorFeed.isThere,
    isLive: () => sensorFeed.state?.state === "live",
    isPaused: () => paused || document.hidden,
    // A view may find out while it is being mounted, and in several of its parts.
    notFound: (what, back) => queueMicrotask(() => turn === shown && show(notFound(what, back), { path, query })),
  };
  const mounted = view.mount(byId("view"), context);
  redraw = mounted.redraw ?? (() => {});
  unmount = mounted.unmount;
  redraw();
}

/** A part of an address without its escapes; as it is where they are broken. */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function paintPill() {
  const { state, text, title } = pillOf({ isPaused: paused, isAway: isAway(), feed: sensorFeed.state, health: health.state });
  byId("pill").dataset.state = state;
  byId("pill").title = title;
  setText(byId("pill-text"), text);
}

function paintFine() {
  const notes = [zoneNote()];
  if (readings.gaps > 0) notes.push(`The server left out ${whole(readings.gaps)} frames that this browser was too slow for; every record is stored all the same.`);
  if (readings.outside > 0) notes.push(`${whole(readings.outside)} readings have event times outside the last 10 minutes and are not drawn.`);
  if (readings.overLimit > 0) notes.push(`${whole(readings.overLimit)} readings of further sensors are not drawn (limit: 1,000 sensors, 8 types).`);
  setText(byId("fine"), notes.join(" "));
}

let announced = null;

function watchCounts() {
  openAlerts.subscribe(({ data }) => {
    const summary = alertSummary(data);
    if (!summary) return;
    const text = `${whole(summary.count)}${summary.more ? "+" : ""}`;
    setCount("alerts", summary.count > 0 ? text : "", { quiet: false, label: "open" });
    const sentence = summary.count === 1 ? "1 open alert" : `${text} open alerts`;
    if (announced !== null && announced !== sentence) setText(byId("announce"), sentence);
    announced = sentence;
  });
  newestDeadLetter.subscribe(({ data }) => {
    if (data) setCount("dead-letters", data.total > 0 ? shortCount(data.total) : "", { quiet: true, label: "in all" });
  });
  tree.subscribe(({ data }) => {
    const failing = flatten(data).filter((node) => toneOf(node.state) === "bad").length;
    setCount("supervision", failing > 0 ? whole(failing) : "", { quiet: false, label: "failing" });
  });
}

const shortCount = (count) => (count > 999 ? `${Math.floor(count / 1000)}k` : whole(count));

function paintPause() {
  const button = byId("pause");
  button.setAttribute("aria-pressed", String(paused));
  button.replaceChildren(icon(paused ? "play" : "pause"), paused ? "Resume" : "Pause");
  button.setAttribute("aria-label", paused ? "Resume updates" : "Pause updates");
}

function togglePause() {
  paused = !paused;
  setPollingPaused(paused);
  paintPause();
  paintPill();
  tick();
}

function tick() {
  paintPill();
  if (paused || document.hidden) return;
  redraws += 1;
  redraw();
  paintFine();
}

const retryNow = () => {
  sensorFeed.reconnectNow();
  refreshAll();
};

function start() {
  buildNav();
  startTheme(byId("theme"));
  startZone(byId("zone"));
  onZoneChange(() => {
    redraw();
    paintFine();
  });
  paintPause();
  byId("pause").addEventListener("click", togglePause);
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault();
    byId("main").focus();
  });
  onOutcomes((errors, isGone) => {
    showBanner(byId("banner"), errors, isGone, retryNow);
    paintPill();
  });
  watchHealth(byId("health"), (sentence) => setText(byId("announce"), sentence));
  watchCounts();
  paintFine();
  route(null);
  addEventListener("hashchange", route);
  addEventListener("online", retryNow);
  sensorFeed.start();
  setInterval(tick, REDRAW_MS);
}

// For tests and for support: what this page has seen so far.
globalThis.streamward = {
  get counts() {
    const summary = restartSummary(tree.state.data);
    return {
      ...sensorFeed.counts, redraws, accepted: readings.accepted, points: readings.points(), sensors: readings.sensors.size, gaps: readings.gaps,
      actors: summary?.actors ?? 0, restarts: summary?.restarts ?? 0, feed: sensorFeed.state?.state ?? null,
    };
  },
  rate: (type) => readings.rate(type),
};

start();
