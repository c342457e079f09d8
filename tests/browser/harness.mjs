// What the tests of the console share: the browser, a page per test, waiting for states, the accessibility check.
import { mkdirSync, readFileSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

export const base = process.argv[2];
const { PLAYWRIGHT_CORE, AXE_CORE, SCREENSHOTS, CHROMIUM = "/usr/bin/chromium", ONLY = "" } = process.env;
if (!base || !PLAYWRIGHT_CORE || !AXE_CORE) {
  console.error("usage: PLAYWRIGHT_CORE=… AXE_CORE=… [SCREENSHOTS=…] node console.mjs BASE_URL");
  process.exit(2);
}
const { chromium } = createRequire(import.meta.url)(PLAYWRIGHT_CORE);
const axeSource = readFileSync(statSync(AXE_CORE).isDirectory() ? join(AXE_CORE, "axe.min.js") : AXE_CORE, "utf8");
if (SCREENSHOTS) mkdirSync(SCREENSHOTS, { recursive: true });

export const VIEWS = ["overview", "sensors", "topics", "alerts", "dead-letters", "supervision"];
export const DESKTOP = { width: 1280, height: 860 };
export const PHONE = { width: 390, height: 844 };
export const WAIT = { timeout: 20_000 };

const browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });
let [passed, failed] = [0, 0];

export function assert(condition, message) {
  if (!condition) throw new Error(message);
}

/** Runs one test in a page of its own; where `ONLY` is set, those whose sentence matches it. `options`: viewport, scheme, motion, time zone, prepare(page) before the first load. */
export async function test(name, body, { viewport = DESKTOP, scheme = "light", motion = "no-preference", zone = "UTC", prepare = async () => {} } = {}) {
  if (!new RegExp(ONLY).test(name)) return;
  const context = await browser.newContext({ viewport, colorScheme: scheme, reducedMotion: motion, timezoneId: zone, locale: "en-US" });
  const page = await context.newPage();
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("console", (message) => /Content Security Policy|Refused to/.test(message.text()) && complaints.push(message.text()));
  try {
    await prepare(page);
    await open(page, "overview");
    await body(page);
    assert(complaints.length === 0, `the page complained: ${complaints.join(" | ")}`);
    passed += 1;
    console.log(`ok   ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${name}\n     ${String(error.message).split("\n").slice(0, 6).join("\n     ")}`);
  }
  // An answer that is still being changed belongs to nobody any more.
  await page.unrouteAll({ behavior: "ignoreErrors" });
  await context.close();
}

export async function open(page, view) {
  await page.goto(new URL(`#/${view}`, base).href);
  await page.waitForFunction((name) => document.querySelector('#nav [aria-current="page"]')?.hash === `#/${name}`, view.split(/[/?]/)[0], WAIT);
}

export const counts = (page) => page.evaluate(() => globalThis.streamward.counts);
export const until = (page, check, argument) => page.waitForFunction(check, argument, WAIT);
export const charts = (page) => page.locator(".chart canvas").first().waitFor(WAIT);

export async function settle(page, view) {
  if (view === "overview" || view === "sensors") await charts(page);
  if (view === "supervision") await page.locator(".tree tbody tr").first().waitFor(WAIT);
  if (view === "topics" || view === "alerts" || view === "dead-letters") await until(page, () => document.querySelector("#view tbody tr, #view .empty-title:not(:empty)") && !/Loading/.test(document.querySelector("#view").textContent));
}

export async function openFirstRow(page) {
  const opener = page.locator("#view .open").first();
  if (await opener.count()) await opener.click();
}

export async function axe(page, view) {
  await page.evaluate(axeSource);
  const found = await page.evaluate(async () => {
    const { violations } = await globalThis.axe.run(document, { resultTypes: ["violations"] });
    return violations.map(({ id, impact, nodes }) => ({ id, impact, where: nodes.slice(0, 3).map((node) => `${node.target} ${node.any[0]?.message ?? ""}`) }));
  });
  const grave = found.filter(({ impact }) => impact === "serious" || impact === "critical");
  assert(grave.length === 0, `${view}: ${grave.map(({ id, impact, where }) => `${impact} ${id} at ${where.join(", ")}`).join("; ")}`);
}

export const shoot = (page, name) => SCREENSHOTS && page.screenshot({ path: join(SCREENSHOTS, `${name}.png`), fullPage: false });

export const EMPTY = {
  "/api/v1/alerts": { total: 0, count: 0, next: null, alerts: [] },
  "/api/v1/dead-letters": { total: 0, count: 0, next: null, dead_letters: [] },
  "/api/v1/streams": { total: 0, count: 0, next: null, streams: [] },
  "/api/v1/lag": { total: 0, count: 0, next: null, lag: [] },
  "/health/ready": { status: "ready", ready: true, reasons: [], degraded: [], standing_still: [] },
  "/api/v1/events": { total: 0, count: 0, next: null, events: [] },
  "/api/v1/supervision/tree": { path: "/", kind: "supervisor", state: "running", generation: 1, restarts: 0, since: Date.now(), last_exit: null, inbox: null, in_hand: null, processed: 0, children: [] },
  "/api/v1/sensors/latest": { count: 0, readings: [] },
  "/api/v1/topics": { total: 0, count: 0, next: null, topics: [] },
};

/** All that the console asks for. */
export const REQUESTS = /\/(api|health)\//;

export const answerWith = (bodies) => async (page) => {
  await page.routeWebSocket("**/ws/*", () => {});
  await page.route(REQUESTS, (route) => {
    const body = bodies[new URL(route.request().url()).pathname];
    return body ? route.fulfill({ json: body }) : route.fallback();
  });
};

/** An answer of the server as it is, with `change(json)`. */
export const changed = (path, change) => (page) =>
  page.route((url) => url.pathname === path, async (route) => {
    const response = await route.fetch();
    const json = await response.json();
    change(json);
    await route.fulfill({ status: response.status(), json });
  });

/** Views of axe and the screenshots, light and dark, on both widths. */
export async function looks(name, body, options = {}) {
  for (const scheme of ["light", "dark"]) {
    for (const [size, viewport] of [["desktop", DESKTOP], ["phone", PHONE]]) {
      const sentence = `${name}, ${size}, ${scheme}`;
      await test(sentence, async (page) => {
        await body(page, `${size}-${scheme}`);
        const width = await page.evaluate(() => document.documentElement.scrollWidth);
        assert(width <= viewport.width, `the page is ${width} px wide`);
      }, { ...options, viewport, scheme });
    }
  }
}

/** Ends the browser and the process, with the tally. */
export async function finish() {
  await browser.close();
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed === 0 ? 0 : 1);
}
