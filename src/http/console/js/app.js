// Start here: the page's frame. It routes by the address's hash, keeps the live feed and the navigation's counts,
// and mounts one view at a time. A view is `{title, mount(slot, context) → {unmount, redraw?}}`; what follows its name in
// the address is in `context.path` and `context.query`, and `titleOf(path)` may name it.
import { get } from "./api.js";
import { showBanner } from "./banner.js";
import { h, icon, setText } from "./dom.js";
import { whole, zone } from "./format.js";
import { toneOf } from "./lifecycle.js";
import { LiveFeed } from "./live.js";
import { Readings } from "./readings.js";
import { newestDeadLetter, onOutcomes, openAlerts, refreshAll, resource, setPollingPaused, tree } from "./resources.js";
import { alertSummary, flatten, restartSummary } from "./summary.js";
import { watchStandingStill } from "./standing.js";
import { startTheme } from "./theme.js";
import * as alerts from "./views/alerts.js";
import * as deadLetters from "./views/dead-letters.js";
import * as overview from "./views/overview.js";
import * as sensors from "./views/sensors.js";
import * as supervision from "./views/supervision.js";
import * as topics from "./views/topics.js";

const VIEWS = { overview, sensors, topics, alerts, "dead-letters": deadLetters, supervision };
const REDRAW_MS = 1000;
/** Pages of 500 stored readings with which the charts begin. */
const MAX_SEED_PAGES = 20;
const byId = (id) => document.getElementById(id);

const readings = new Readings();
const counts = { frames: 0, reconnects: 0, redraws: 0 };
let feedState = { state: "connecting", retryAt: null };
let paused = false;
let unmount = () => {};
let redraw = () => {};

const feed = new LiveFeed("/ws/sensors", {
  onFrame: (frame) => {
    counts.frames += 1;
    readings.addFrame(frame);
  },
  onState: (state) => {
    if (state.state !== "live" && feedState.state === "live") counts.reconnects += 1;
    feedState = state;
    paintPill();
  },
});

function buildNav() {
  const items = Object.entries(VIEWS).map(([name, view]) =>
    h("li", {}, h("a", { href: `#/${name}` }, icon(name), h("span", {}, view.title), h("span", { class: "count", id: `count-${name}`, hidden: true }))),
  );
  byId("nav").replaceChildren(...items);
}

function setCount(name, text, { quiet, label }) {
  const element = byId(`count-${name}`);
  element.hidden = text === "";
  element.className = quiet ? "count quiet" : "count";
  element.replaceChildren(text, h("span", { class: "unseen" }, ` ${label}`));
}

function route(event) {
  const [address, query = ""] = location.hash.replace(/^#\//, "").split("?");
  const [name, ...rest] = (address || "overview").split("/");
  const path = decoded(rest.join("/"));
  const view = VIEWS[name] ?? overview;
  unmount();
  byId("view").replaceChildren();
  for (const link of byId("nav").querySelectorAll("a")) {
    if (link.hash === `#/${VIEWS[name] ? name : "overview"}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const title = view.titleOf?.(path) ?? view.title;
  setText(byId("title"), title);
  document.title = `${title} · Streamward`;
  const context = { readings, path, query: new URLSearchParams(query), isLive: () => feedState.state === "live", isPaused: () => paused || document.hidden };
  const mounted = view.mount(byId("view"), context);
  redraw = mounted.redraw ?? (() => {});
  unmount = mounted.unmount;
  redraw();
  if (event) {
    scrollTo(0, 0);
    byId("title").focus();
  }
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
  const wait = feedState.retryAt ? Math.max(0, Math.ceil((feedState.retryAt - Date.now()) / 1000)) : 0;
  const texts = { connecting: "Connecting", live: "Live", reconnecting: "Reconnecting", offline: "Offline" };
  const state = paused ? "paused" : feedState.state;
  byId("pill").dataset.state = state;
  setText(byId("pill-text"), paused ? "Paused" : texts[feedState.state]);
  byId("pill").title = wait > 0 ? `The live feed is tried again in ${wait} s` : "State of the live feed";
}

function paintFine() {
  const notes = [`Times are local (${zone()}); UTC is in their tooltips.`];
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
  counts.redraws += 1;
  redraw();
  paintFine();
}

const retryNow = () => {
  feed.reconnectNow();
  refreshAll();
};

/** Fills the charts with what is stored already, so that they do not start empty. */
function seed() {
  const latest = resource("/api/v1/sensors/latest?limit=100");
  const stop = latest.subscribe(({ data }) => {
    if (!data) return;
    for (const reading of [...(data.readings ?? [])].reverse()) readings.add(reading);
    queueMicrotask(() => stop());
    redraw();
    backfill(data.next);
  });
}

/** Older readings, page by page, until the charts are full. What fails here is missing in the charts and nowhere else. */
async function backfill(cursor) {
  try {
    for (let page = 0; cursor && page < MAX_SEED_PAGES; page += 1) {
      const { records, next } = await get(`/api/v1/streams/sensors/latest?limit=500&cursor=${encodeURIComponent(cursor)}`);
      const drawn = records.reverse().filter((reading) => readings.add(reading)).length;
      redraw();
      cursor = drawn === records.length ? next : null;
    }
  } catch (error) {
    console.warn("older readings are not drawn", error);
  }
}

function start() {
  buildNav();
  startTheme(byId("theme"));
  paintPause();
  byId("pause").addEventListener("click", togglePause);
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault();
    byId("main").focus();
  });
  onOutcomes((errors, asked) => showBanner(byId("banner"), errors, asked, retryNow));
  watchStandingStill(byId("standing"), (sentence) => setText(byId("announce"), sentence));
  watchCounts();
  route(null);
  addEventListener("hashchange", route);
  addEventListener("online", retryNow);
  seed();
  feed.connect();
  setInterval(tick, REDRAW_MS);
}

// For tests and for support: what this page has seen so far.
globalThis.streamward = {
  get counts() {
    const summary = restartSummary(tree.state.data);
    return {
      ...counts, accepted: readings.accepted, points: readings.points(), sensors: readings.sensors.size, gaps: readings.gaps,
      actors: summary?.actors ?? 0, restarts: summary?.restarts ?? 0, feed: feedState.state,
    };
  },
  rate: (type) => readings.rate(type),
};

start();
