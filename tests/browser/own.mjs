// Drives the console against a server whose configuration has one stream of its own, `facts`, and none of those that are built in.
// Usage: as console.mjs.
import { assert, axe, base, finish, looks, open, openFirstRow, shoot, test, until, VIEWS, WAIT } from "./harness.mjs";

const OWN_VIEWS = VIEWS.filter((view) => view !== "sensors");

const write = (page, who) => page.request.post(new URL("/api/v1/streams/facts/records", base).href, { data: { who, at: Date.now() } });
const row = (page) => page.locator("#view tbody tr:not(.detail)", { hasText: "facts" }).first();
const pillIs = (page, text) => until(page, (wanted) => document.querySelector("#pill-text").textContent === wanted, text);

/** Notes what is asked for in vain, and which live feeds are opened. */
async function watch(page, notes) {
  page.on("response", (response) => response.status() >= 400 && notes.push(`${response.status()} ${response.url()}`));
  page.on("websocket", (socket) => socket.url().includes("/ws/sensors") && notes.push(socket.url()));
}

const notes = [];
await test("no page asks for what a server without sensors has not", async (page) => {
  for (const view of OWN_VIEWS) {
    await open(page, view);
    await until(page, () => !/Loading|Waiting for/.test(document.querySelector("#view").textContent));
    await pillIs(page, "Live");
  }
  assert(notes.length === 0, notes.join());
  const menu = await page.locator("#nav a").evaluateAll((links) => links.map((link) => link.hash));
  assert(menu.join() === OWN_VIEWS.map((view) => `#/${view}`).join(), `the menu is ${menu.join()}`);
}, { prepare: (page) => watch(page, notes) });

await test("the overview shows the stream: how many records, how fast, how far behind, how new", async (page) => {
  await row(page).waitFor(WAIT);
  const stored = Number(await row(page).locator("td").nth(3).innerText());
  const waits = [0, 1, 2].map((number) => write(page, `w-${number}`));
  await Promise.all(waits);
  await until(page, (wanted) => [...document.querySelectorAll("#view tbody tr td")][3]?.textContent === wanted, String(stored + 3));
  await until(page, () => Number.parseFloat([...document.querySelectorAll("#view tbody tr td")][2].textContent) > 0);
  await row(page).locator("td").nth(6).getByText("0", { exact: true }).waitFor(WAIT);
  await until(page, () => / s ago$/.test([...document.querySelectorAll("#view tbody tr td")][5].textContent));
  await page.locator(".tile", { hasText: "1 stream" }).waitFor(WAIT);
  assert(!/sensor/i.test(await page.locator("main").innerText()), "sensors are spoken of");
});

await test("the page of sensors is not found on a server that has none", async (page) => {
  await page.goto(new URL("#/sensors", base).href);
  await page.locator(".not-found .empty-title", { hasText: "This server has no stream named sensors." }).waitFor(WAIT);
});

await test("an empty list speaks of a topic that there is", async (page) => {
  await open(page, "dead-letters");
  await page.locator(".empty code", { hasText: /^facts$/ }).waitFor(WAIT);
});

await looks("axe finds nothing serious on the pages of an own stream", async (page, name) => {
  for (const view of OWN_VIEWS) {
    await open(page, view);
    await until(page, () => !/Loading/.test(document.querySelector("#view").textContent));
    await openFirstRow(page);
    await axe(page, view);
    await shoot(page, `own-${view}-${name}`);
  }
});

await finish();
