// Drives the console in a headless browser against a running server with drills. Every test is a sentence; the last line is the tally.
// Usage: PLAYWRIGHT_CORE=<folder> AXE_CORE=<folder or axe.min.js> [SCREENSHOTS=<folder>] [CHROMIUM=/usr/bin/chromium] node console.mjs http://127.0.0.1:8000
import { answerWith, assert, axe, base, charts, counts, DESKTOP, EMPTY, finish, open, openFirstRow, PHONE, REQUESTS, settle, shoot, test, until, VIEWS, WAIT } from "./harness.mjs";
import { alerts } from "./alerts.mjs";
import { away } from "./away.mjs";
import { health } from "./health.mjs";
import { lost } from "./lost.mjs";
import { supervision } from "./supervision.mjs";
import { times } from "./times.mjs";

const chartPixels = (page) => page.evaluate(() => document.querySelector(".chart canvas").toDataURL());

await test("the page has its title and names each view", async (page) => {
  for (const [view, title] of [["overview", "Overview"], ["sensors", "Sensors"], ["topics", "Topics"], ["alerts", "Alerts"], ["dead-letters", "Dead letters"], ["supervision", "Supervision"]]) {
    await open(page, view);
    await until(page, (wanted) => document.title === `${wanted} · Streamward` && document.querySelector("h1").textContent === wanted, title);
  }
});

await test("the live chart moves", async (page) => {
  await charts(page);
  const before = { counts: await counts(page), pixels: await chartPixels(page) };
  await until(page, (old) => globalThis.streamward.counts.points > old.points && globalThis.streamward.counts.frames > old.frames, before.counts);
  await until(page, (old) => document.querySelector(".chart canvas").toDataURL() !== old, before.pixels);
});

await test("each sensor type shows a rate above zero", async (page) => {
  await charts(page);
  await until(page, () => ["temperature", "humidity", "pressure"].every((type) => globalThis.streamward.rate(type) > 0));
  await until(page, () => Number.parseFloat(document.querySelector(".tile-value").textContent.replaceAll(",", "")) > 0);
});

await test("the pill says that the feed is live", (page) => until(page, () => document.querySelector("#pill").dataset.state === "live"));

await supervision();
await alerts();
await times();
await health();
await lost();
await away();

await test("no view scrolls sideways at 390 px, opened rows included", async (page) => {
  for (const view of VIEWS) {
    await open(page, view);
    await settle(page, view);
    await openFirstRow(page);
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    assert(width <= PHONE.width, `${view} is ${width} px wide`);
  }
}, { viewport: PHONE });

await test("the keyboard reaches everything in order, with a visible focus", async (page) => {
  await charts(page);
  const seen = [];
  for (let press = 0; press < 12; press += 1) {
    await page.keyboard.press("Tab");
    seen.push(await page.evaluate(() => {
      const element = document.activeElement;
      const { outlineStyle, outlineWidth } = getComputedStyle(element);
      const box = element.getBoundingClientRect();
      return { name: element.id || element.hash || element.className, outline: outlineStyle !== "none" && Number.parseFloat(outlineWidth) >= 2, onScreen: box.top >= 0 && box.left >= 0 && box.width > 0 };
    }));
  }
  const order = seen.map(({ name }) => name);
  const wanted = ["skip", "#/overview", ...VIEWS.map((view) => `#/${view}`), null, "zone", "theme", "pause"];
  wanted.forEach((name, at) => assert(name === null || order[at] === name, `stop ${at + 1} is ${order[at]}, not ${name}`));
  for (const { name, outline, onScreen } of seen) assert(outline && onScreen, `${name}: focus not visible`);
});

await test("the skip link leads to the content and a chosen view gets the focus", async (page) => {
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  assert((await page.evaluate(() => document.activeElement.id)) === "main", "the skip link does not lead to main");
  await page.locator('#nav a[href="#/alerts"]').press("Enter");
  await until(page, () => document.activeElement.id === "title" && document.querySelector("h1").textContent === "Alerts");
});

await test("the theme switch is remembered", async (page) => {
  await page.locator("#theme").click();
  await page.reload();
  assert((await page.evaluate(() => getComputedStyle(document.documentElement).colorScheme)) === "dark", "the choice is forgotten");
  await page.locator("#theme").click();
  assert((await page.evaluate(() => localStorage.getItem("streamward.theme"))) === null, "the system's own theme is remembered as a choice");
});

await test("pause stops the figures and resume goes on", async (page) => {
  await charts(page);
  await page.locator("#pause").click();
  const { redraws } = await counts(page);
  await until(page, (frames) => globalThis.streamward.counts.frames > frames + 30, (await counts(page)).frames);
  assert((await counts(page)).redraws === redraws, "the page went on drawing");
  await page.locator("#pause").click();
  await until(page, (old) => globalThis.streamward.counts.redraws > old, redraws);
});

await test("topics are filtered as one types, and the address keeps the filter", async (page) => {
  await open(page, "topics");
  await page.locator("#view tbody tr", { hasText: "sensor-readings" }).waitFor(WAIT);
  await page.locator("#view .search").fill("sensor-r");
  await until(page, () => document.querySelectorAll("#view tbody tr").length === 1);
  await page.reload();
  await until(page, () => document.querySelectorAll("#view tbody tr").length === 1);
  await page.locator("#view .search").fill("no such topic");
  await page.locator(".empty-title", { hasText: "No topic matches." }).waitFor(WAIT);
});

const record = (page, text) => page.locator("table.rows tbody tr:not(.detail)", { hasText: text });
const written = (page) => page.locator(".said[data-tone=good]", { hasText: "Written to partition" });

await test("a topic opens with partitions, groups and settings, and shows its records decoded", async (page) => {
  await open(page, "topics");
  await page.locator("#view a", { hasText: "sensor-readings" }).click();
  await until(page, () => document.querySelector("h1").textContent === "sensor-readings");
  await page.locator("#view .open").first().click();
  await page.locator(".detail .badge", { hasText: /^(avro|json)$/ }).waitFor(WAIT);
  assert((await page.locator(".detail .raw").first().innerText()).includes('"sensor_id"'), "the value is not decoded");
  await page.locator(".panel", { hasText: "Consumer groups" }).locator("tbody tr").first().waitFor(WAIT);
  await page.locator(".panel", { hasText: "Partitions" }).locator("tbody tr").first().waitFor(WAIT);
  await page.locator(".panel", { hasText: "Settings" }).locator("tbody tr", { hasText: "max.message.bytes" }).first().waitFor(WAIT);
});

await test("a record that is written is seen, found by its key, and the address keeps the search", async (page) => {
  const key = `key-${Date.now()}`;
  await open(page, "topics/system-alerts");
  const form = page.getByRole("form", { name: "Record to write" });
  await form.getByLabel("Key", { exact: true }).fill(key);
  await form.getByLabel("Value is").selectOption("json");
  await form.getByLabel("Value", { exact: true }).fill('{"made": "by hand"}');
  await form.getByLabel("Headers").fill("source: console");
  await form.getByRole("button").click();
  await written(page).waitFor(WAIT);
  await record(page, "by hand").first().waitFor(WAIT);
  const search = page.getByRole("form", { name: "Which records" });
  await search.getByLabel("Key", { exact: true }).fill(key);
  await search.getByRole("button", { name: "Show" }).click();
  await until(page, (wanted) => location.hash.includes(wanted) && document.querySelector("#view .panel .panel-note")?.textContent.startsWith("1 of"), key);
  await page.reload();
  await until(page, () => document.querySelector("#view .panel .panel-note")?.textContent.startsWith("1 of"));
  await page.locator("#view .open").first().click();
  await page.locator(".detail", { hasText: "console" }).first().waitFor(WAIT);
  await search.getByLabel("Key", { exact: true }).fill("nobody has this key");
  await search.getByRole("button", { name: "Show" }).click();
  await page.locator(".empty-title", { hasText: "No record matches." }).waitFor(WAIT);
});

await test("following shows what is written meanwhile", async (page) => {
  const key = `follow-${Date.now()}`;
  await open(page, `topics/dlq-messages?key=${key}`);
  await page.locator(".empty-title", { hasText: "No record matches." }).waitFor(WAIT);
  await page.getByRole("button", { name: "Follow" }).click();
  await page.evaluate((to) => fetch("/api/v1/topics/dlq-messages/records", { method: "POST", body: JSON.stringify({ key: to, value: "later" }) }), key);
  await record(page, "later").first().waitFor(WAIT);
}, { prepare: (page) => page.request.post(new URL("/api/v1/topics/dlq-messages/records", base).href, { data: { key: "another", value: "before" } }) });

await test("records are shown from an offset on, and a wrong value is said", async (page) => {
  await open(page, "topics/sensor-readings?partition=0&offset=3");
  await until(page, () => document.querySelector("#view td.place")?.textContent.startsWith("0 / 3"));
  const form = page.getByRole("form", { name: "Record to write" });
  await form.getByLabel("Value is").selectOption("json");
  await form.getByLabel("Value", { exact: true }).fill("{");
  await form.getByRole("button").click();
  await page.locator(".said[data-tone=bad]", { hasText: "The value is no JSON" }).waitFor(WAIT);
});

await test("a setting is changed and taken back to its default", async (page) => {
  await open(page, "topics/system-alerts");
  const settings = page.locator("section.panel", { has: page.getByRole("heading", { name: "Settings" }) });
  await settings.getByRole("button", { name: "All", exact: true }).click();
  await settings.getByRole("button", { name: "Details of setting retention.ms" }).click();
  await settings.getByLabel("New value of retention.ms").fill("3600000");
  await settings.getByRole("button", { name: "Save" }).click();
  await settings.locator(".said", { hasText: "Saved." }).waitFor(WAIT);
  await settings.getByRole("button", { name: "Own", exact: true }).click();
  await settings.locator("tbody tr", { hasText: "3600000" }).first().waitFor(WAIT);
  await settings.getByRole("button", { name: "Back to default" }).click();
  await settings.locator("tbody tr", { hasText: "3600000" }).first().waitFor({ state: "detached", ...WAIT });
});

await test("a right that is missing is said", async (page) => {
  await page.route("**/records", (route) => (route.request().method() === "POST" ? route.fulfill({ status: 403, json: { title: "Forbidden" } }) : route.fallback()));
  await open(page, "topics/system-alerts");
  await page.getByRole("form", { name: "Record to write" }).getByRole("button").click();
  await page.locator(".said[data-tone=bad]", { hasText: "role operator" }).waitFor(WAIT);
});

await test("reduced motion stops every animation", async (page) => {
  await charts(page);
  const running = await page.evaluate(() => document.getAnimations().length);
  assert(running === 0, `${running} animations run`);
}, { motion: "reduce" });

for (const scheme of ["light", "dark"]) {
  for (const [size, viewport] of [["desktop", DESKTOP], ["phone", PHONE]]) {
    await test(`axe finds nothing serious in any view, ${size}, ${scheme}`, async (page) => {
      for (const view of VIEWS) {
        await open(page, view);
        await settle(page, view);
        await openFirstRow(page);
        await axe(page, view);
        await shoot(page, `${view}-${size}-${scheme}`);
      }
      await open(page, "topics/sensor-readings");
      await page.locator("#view td.place").first().waitFor(WAIT);
      await page.locator(".panel", { hasText: "Consumer groups" }).locator("tbody tr").first().waitFor(WAIT);
      await openFirstRow(page);
      await axe(page, "topic");
      await shoot(page, `topic-${size}-${scheme}`);
      assert((await page.evaluate(() => document.documentElement.scrollWidth)) <= viewport.width, "the topic scrolls sideways");
    }, { viewport, scheme });
  }
}

for (const scheme of ["light", "dark"]) {
  await test(`an unreachable server is said, keeps the last figures and is recovered from, ${scheme}`, async (page) => {
    await charts(page);
    await until(page, () => document.querySelector(".tile-value").textContent !== "–");
    await page.route(REQUESTS, (route) => route.abort());
    await page.locator(".banner", { hasText: "Streamward does not answer" }).waitFor(WAIT);
    assert((await page.locator(".tile-value").first().innerText()) !== "–", "the last figures are gone");
    await axe(page, "unreachable");
    await shoot(page, `unreachable-desktop-${scheme}`);
    await page.unroute(REQUESTS);
    await page.evaluate(() => document.querySelector(".banner button")?.click());
    await page.locator(".banner").waitFor({ state: "detached", ...WAIT });
  }, { scheme });

  await test(`empty lists say what would be there, ${scheme}`, async (page) => {
    for (const [view, text] of [["overview", "No streams."], ["topics", "No topics."], ["alerts", "No alerts."], ["dead-letters", "No dead letters."], ["supervision", "No events."], ["supervision", "Quiet."]]) {
      await open(page, view);
      await page.locator(".empty-title", { hasText: text }).waitFor(WAIT);
      await axe(page, `empty ${view}`);
      await shoot(page, `empty-${view}-desktop-${scheme}`);
    }
  }, { scheme, prepare: answerWith(EMPTY) });

  await test(`a stream of sensors without readings says what would be there, ${scheme}`, async (page) => {
    for (const [view, text] of [["overview", "No readings yet."], ["sensors", "No sensors yet."]]) {
      await open(page, view);
      await page.locator(".empty-title", { hasText: text }).waitFor(WAIT);
      await axe(page, `empty ${view}`);
      await shoot(page, `empty-sensors-${view}-desktop-${scheme}`);
    }
  }, { scheme, prepare: answerWith({ ...EMPTY, "/api/v1/streams": { total: 1, count: 1, next: null, streams: [{ name: "sensors", topic: "sensor-readings" }] } }) });
}

await test("a lost live feed is said", async (page) => {
  await until(page, () => ["reconnecting", "offline"].includes(document.querySelector("#pill").dataset.state));
  await until(page, () => document.querySelector("#pill").dataset.state === "offline");
}, { prepare: (page) => page.routeWebSocket("**/ws/sensors", (socket) => socket.close()) });

await test("the charts begin with what is stored, more than one page of it", async (page) => {
  await until(page, () => globalThis.streamward.counts.accepted > 300);
  assert(!(await page.evaluate(() => globalThis.streamward.counts.frames)), "there is no feed that could have brought them");
}, { prepare: (page) => page.routeWebSocket("**/ws/sensors", (socket) => socket.close()) });

/** A server that lets in whoever has the token `secret-token`. */
const guarded = (page) => page.route("**/api/**", (route) =>
  route.request().headers().authorization === "Bearer secret-token" ? route.fallback() : route.fulfill({ status: 401, json: { title: "Unauthorized", detail: "a valid bearer token is needed" } }));

async function giveToken(page, token) {
  await page.locator(".banner input").fill(token);
  await page.locator(".banner button").click();
}

await test("a refused request asks for an access token and uses it", async (page) => {
  await giveToken(page, "secret-token");
  await page.locator(".banner").waitFor({ state: "detached", ...WAIT });
}, { prepare: guarded });

await test("a wrong access token is refused with the reason, each time, and a half-typed one is kept", async (page) => {
  await page.locator(".banner h2", { hasText: "This server asks for an access token" }).waitFor(WAIT);
  for (const wrong of ["wrong-token", "other-token"]) {
    await page.locator(".banner").evaluate((banner) => (banner.dataset.old = "yes"));
    await giveToken(page, wrong);
    const refused = page.locator(".banner:not([data-old])", { hasText: "The server refused this access token" });
    await refused.getByText("a valid bearer token is needed").waitFor(WAIT);
    assert(await refused.getAttribute("role") === "alert", "nobody who cannot see it is told");
  }
  await page.locator(".banner input").fill("half-ty");
  await page.waitForResponse((response) => response.status() === 401, WAIT);
  await page.waitForResponse((response) => response.status() === 401, WAIT);
  assert(await page.locator(".banner input").inputValue() === "half-ty", "the half-typed token is gone");
  await giveToken(page, "secret-token");
  await page.locator(".banner").waitFor({ state: "detached", ...WAIT });
}, { prepare: guarded });

await finish();
