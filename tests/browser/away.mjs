// A server that is away: the page asks each second, and goes on as soon as it is back. The page's clock is the test's.
import { assert, charts, counts, open, REQUESTS, test, until, WAIT } from "./harness.mjs";

/** Longer than any back-off. */
const LONG_MS = 120_000;
const WITHIN_MS = 2000;

/** A line to the server that can be cut: requests and live feeds fail, and open feeds end. */
class Line {
  constructor() {
    this.isCut = false;
    this.sockets = new Set();
    this.asked = 0;
  }

  async lay(page) {
    await page.clock.install();
    await page.routeWebSocket("**/ws/*", (socket) => {
      if (this.isCut) return socket.close();
      socket.connectToServer();
      return this.sockets.add(socket);
    });
    await page.route(REQUESTS, (route) => {
      if (!this.isCut) return route.fallback();
      this.asked += route.request().url().endsWith("/health/live") ? 1 : 0;
      return route.abort("connectionrefused");
    });
  }

  async cut() {
    this.isCut = true;
    for (const socket of this.sockets) await socket.close();
    this.sockets.clear();
  }
}

const pill = (page, state) => until(page, (wanted) => document.querySelector("#pill").dataset.state === wanted, state);

const STEP_MS = 500;

/** Lets the page's time pass. Answers take real time: each step waits for an answer that was asked for last. */
async function pass(page, ms) {
  for (let passed = 0; passed < ms; passed += STEP_MS) {
    await page.clock.runFor(STEP_MS);
    await page.evaluate(() => fetch("/health/live?of=test").catch(() => null));
  }
}

async function loseFor(page, line, ms) {
  await line.cut();
  await pill(page, "offline");
  await until(page, () => globalThis.streamward.counts.feed !== "live");
  await page.locator(".banner", { hasText: "Streamward does not answer" }).waitFor(WAIT);
  await page.clock.pauseAt(await page.evaluate(() => Date.now() + 1000));
  await pass(page, ms);
}

/** What every page asks for. */
const FIGURES = ["/api/v1/streams", "/api/v1/alerts", "/api/v1/dead-letters", "/api/v1/supervision/tree", "/health/ready"];

const isOffline = (page) => page.evaluate(() => document.querySelector("#pill").dataset.state === "offline");

/** Once the page has found the server its time stands: what comes then was waited for no longer. */
async function isBackWithin(page, line, ms) {
  const answers = FIGURES.map((path) => page.waitForResponse((response) => new URL(response.url()).pathname === path && response.ok(), WAIT));
  line.isCut = false;
  for (let passed = 0; passed < ms && (await isOffline(page)); passed += STEP_MS) await pass(page, STEP_MS);
  await Promise.all(answers);
  await page.locator(".banner").waitFor({ state: "detached", ...WAIT });
  await until(page, () => globalThis.streamward.counts.feed === "live");
}

export async function away() {
  const line = new Line();
  await test("two seconds after the server is back, readings and figures come in again", async (page) => {
    await charts(page);
    await pill(page, "live");
    await loseFor(page, line, LONG_MS);
    assert((await page.locator("#pill").getAttribute("title")).includes("each second"), "the page does not say that it asks");
    const { asked } = line;
    await pass(page, 10_000);
    assert(line.asked - asked >= 5, `the server was asked ${line.asked - asked} times in ten seconds`);
    const { frames } = await counts(page);
    await isBackWithin(page, line, WITHIN_MS);
    await until(page, (before) => globalThis.streamward.counts.frames > before, frames);
  }, { prepare: (page) => line.lay(page) });

  const other = new Line();
  await test("two seconds after the server is back, events of the tree come in again", async (page) => {
    // The feed of a page that was left stays closed.
    for (const view of ["supervision", "overview", "supervision"]) await open(page, view);
    await page.locator(".tree tbody tr").first().waitFor(WAIT);
    await loseFor(page, other, LONG_MS);
    const before = other.sockets.size;
    await isBackWithin(page, other, WITHIN_MS);
    await until(page, () => document.querySelectorAll(".events li").length > 0);
    assert(other.sockets.size - before === 2, `${other.sockets.size - before} live feeds are open, not those of readings and events`);
  }, { prepare: (page) => other.lay(page) });

  const wire = { isDead: false, opened: 0 };
  await test("a live feed whose other end is gone without a word is not shown as live, and is opened anew", async (page) => {
    await charts(page);
    await pill(page, "live");
    wire.isDead = true;
    await page.clock.pauseAt(await page.evaluate(() => Date.now() + 1000));
    for (let passed = 0; passed < NOTICED_MS && (await isLive(page)); passed += STEP_MS) await pass(page, STEP_MS);
    assert(!(await isLive(page)), "it is shown as live after 10 s");
    const { opened } = wire;
    wire.isDead = false;
    await page.clock.resume();
    await until(page, () => globalThis.streamward.counts.feed === "live");
    assert(wire.opened > opened, "it was not opened anew");
  }, { prepare: (page) => layWire(page, wire) });
}

/** A silence must be seen by then. */
const NOTICED_MS = 10_000;

const isLive = (page) => page.evaluate(() => globalThis.streamward.counts.feed === "live");

/** Lets frames through in both directions until the wire is dead. */
async function layWire(page, wire) {
  await page.clock.install();
  await page.routeWebSocket("**/ws/sensors", (socket) => {
    wire.opened += 1;
    const server = socket.connectToServer();
    socket.onMessage((text) => wire.isDead || server.send(text));
    server.onMessage((text) => wire.isDead || socket.send(text));
  });
}
