// What is wrong with the server is said on every page: banner, pill and tiles.
import { answerWith, assert, axe, base, changed, EMPTY, looks, open, REQUESTS, shoot, test, until, VIEWS, WAIT } from "./harness.mjs";

const LANE = "pipelines/series/lane";

const pill = (page, state, text) => until(page, (wanted) => document.querySelector("#pill").dataset.state === wanted[0] && document.querySelector("#pill-text").textContent === wanted[1], [state, text]);
const tile = (page, label) => page.locator(".tile", { has: page.getByText(label, { exact: true }) });
const noAlerts = changed("/api/v1/alerts", (body) => Object.assign(body, EMPTY["/api/v1/alerts"]));
const command = (page, word) => page.request.post(new URL(`/api/v1/supervision/${LANE}/${word}`, base).href);

/** The server says of itself that something is wrong. */
const says = (body) => answerWith({ ...EMPTY, "/health/ready": { ...EMPTY["/health/ready"], ...body } });

const FINDING = { cause: "degraded", actor: "relays/alerts", pipeline: null, topic: null, partition: null, since: "2026-07-15T11:00:00Z", reason: "its topic takes no records", way_out: "it goes on by itself" };

async function words() {
  await test("a lane that is paused is named above every page until it goes on, and nothing is quiet or live", async (page) => {
    await pill(page, "live", "Live");
    await tile(page, "Open alerts").getByText("All quiet").waitFor(WAIT);
    await command(page, "pause");
    try {
      for (const view of VIEWS) {
        await open(page, view);
        await page.locator(".standing", { hasText: `${LANE} was paused` }).waitFor(WAIT);
        await page.locator(".standing", { hasText: "resume" }).waitFor(WAIT);
        await pill(page, "not-ready", "Not ready");
      }
      assert((await page.locator(".standing li").count()) === 1, "it is named twice");
      await open(page, "overview");
      await tile(page, "Lag").getByText("stand still").waitFor(WAIT);
      await tile(page, "Open alerts").getByText("No rule fires").waitFor(WAIT);
    } finally {
      await command(page, "resume");
    }
    await page.locator(".standing").waitFor({ state: "detached", ...WAIT });
    await pill(page, "live", "Live");
    await tile(page, "Open alerts").getByText("All quiet").waitFor(WAIT);
  }, { prepare: noAlerts });

  await test("a server that is degraded is not shown as live", async (page) => {
    await pill(page, "degraded", "Degraded");
    await page.locator(".standing", { hasText: "relays/alerts: its topic takes no records" }).waitFor(WAIT);
    await tile(page, "Open alerts").getByText("No rule fires").waitFor(WAIT);
  }, { prepare: says({ status: "degraded", degraded: ["relays/alerts"], standing_still: [FINDING] }) });

  await test("why a server is not ready is said, with a link to the actor", async (page) => {
    await pill(page, "not-ready", "Not ready");
    const items = await page.locator(".standing li").allInnerTexts();
    assert(items.join() === "pipelines/series/sink is backing off,pipeline series has no partitions yet", items.join());
    await page.locator(".standing").getByRole("link", { name: "pipelines/series/sink" }).click();
    await until(page, () => location.hash === "#/supervision/pipelines/series/sink");
  }, { prepare: says({ status: "not ready", ready: false, reasons: ["pipelines/series/sink is backing_off", "pipeline series has no partitions yet"] }) });

  await test("an answer that says nothing about readiness is not taken for a good one", (page) => pill(page, "not-ready", "Not ready"), {
    prepare: async (page) => {
      await says({})(page);
      await page.route("**/health/ready", (route) => route.fulfill({ status: 503, json: { title: "Bad Gateway" } }));
    },
  });
}

async function gone() {
  await test("nothing is quiet while the server is away", async (page) => {
    await tile(page, "Open alerts").getByText("All quiet").waitFor(WAIT);
    await page.route(REQUESTS, (route) => route.abort());
    await pill(page, "offline", "Offline");
    await tile(page, "Open alerts").getByText("No rule fires").waitFor(WAIT);
  }, { prepare: says({}) });
}

const partition = (stream, values) => ({ pipeline: stream, stream, topic: stream, partition: 0, position: 10, log_end: 10, lag_records: 0, lag_seconds: 0, behind: false, in_open_transactions: 0, state: "moving", standing_still: null, ...values });

/** Streams whose partitions are as given. */
const lags = (all) => answerWith({
  ...EMPTY,
  "/api/v1/streams": { total: all.length, count: all.length, next: null, streams: all.map(({ stream }) => ({ name: stream, topic: stream, table: stream, stored: 10, dead: 0, filtered: 0, newest: null })) },
  "/api/v1/lag": { total: all.length, count: all.length, next: null, lag: all },
});

async function lag() {
  const shownAs = (page, tone) => until(page, (wanted) => [...document.querySelectorAll(".tile")].find((one) => one.textContent.startsWith("Lag")).dataset.tone === wanted, tone);
  const cell = (page, stream) => page.locator("#view tbody tr", { hasText: stream }).locator("td").nth(6);
  await test("lag is set off where the server says that a partition is behind, and not before", async (page) => {
    await cell(page, "slow").getByText("12 · 29 s").waitFor(WAIT);
    assert((await cell(page, "slow").getAttribute("class")) === "num", "lag that is usual is set off");
    assert((await cell(page, "behind").getAttribute("class")) === "num odd", "lag that is not usual is not set off");
    await shownAs(page, "warn");
  }, { prepare: lags([partition("slow", { lag_records: 12, lag_seconds: 29 }), partition("behind", { lag_records: 1, lag_seconds: 31, behind: true })]) });

  await test("usual lag has no colour", (page) => shownAs(page, ""), { prepare: lags([partition("slow", { lag_records: 12, lag_seconds: 29 })]) });

  await test("what stands still is worse than what is behind", async (page) => {
    await shownAs(page, "bad");
    assert((await cell(page, "stuck").getAttribute("class")) === "num bad", "the stream is not set off");
  }, { prepare: lags([partition("behind", { lag_records: 1, lag_seconds: 31, behind: true }), partition("stuck", { lag_records: 3, lag_seconds: 31, behind: true, state: "standing_still" })]) });
}

export async function health() {
  await words();
  await gone();
  await lag();
  await looks("axe finds nothing serious in an overview of a server that is not ready", async (page, name) => {
    await pill(page, "not-ready", "Not ready");
    await page.locator(".standing li").nth(1).waitFor(WAIT);
    await axe(page, "not ready");
    await shoot(page, `not-ready-${name}`);
  }, { prepare: says({ status: "not ready", ready: false, reasons: ["pipelines/series/sink is backing_off"], standing_still: [FINDING] }) });
}
