// Times: the year where it is not the present one, how long ago, and the switch between the browser's zone and UTC.
import { answerWith, assert, EMPTY, open, shoot, test, until, WAIT } from "./harness.mjs";

const NOW = new Date("2026-07-15T12:00:00Z");

const alert = (id, at) => {
  const fired = { event_time: at, created_at: at, offset: 1, message: "value > 1 holds for k", record: {} };
  return { alert_id: id, rule: id, stream: "s", key: "k", severity: "info", state: "firing", topic: "t", partition: 0, condition: "value > 1", fired, resolved: null, ...fired };
};

const ALERTS = [alert("recent", "2026-07-15T11:57:00Z"), alert("spring", "2026-03-01T10:00:00Z"), alert("old", "2013-12-23T23:30:00Z")];
const answers = answerWith({ ...EMPTY, "/api/v1/alerts": { total: 3, count: 3, next: null, alerts: ALERTS } });

async function prepare(page) {
  await page.clock.setFixedTime(NOW);
  await answers(page);
}

const shown = (page, rule) => page.locator("#view tbody tr:not(.detail)", { hasText: rule }).locator("time");

async function expectTime(page, rule, text) {
  await shown(page, rule).waitFor(WAIT);
  const found = (await shown(page, rule).innerText()).replaceAll("\u00a0", " ");
  assert(found === text, `${rule} is shown as "${found}", not "${text}"`);
}

const LONG_AGO = "2013-12-23T23:30:00Z";
const LETTER = { id: 1, class: "decode", reason: "not JSON", topic: "t", partition: 0, offset: 7, stage: "decode", state: "quarantined", created_at: LONG_AGO, headers: [] };
const RECORD = { partition: 0, offset: 7, timestamp: LONG_AGO, key: null, value: { format: "text", data: "v" }, headers: [], size: 1 };
const TOPIC = "sensor-readings";
const PAST = {
  ...EMPTY,
  "/api/v1/alerts": { total: 1, count: 1, next: null, alerts: [alert("old", LONG_AGO)] },
  "/api/v1/dead-letters": { total: 1, count: 1, next: null, dead_letters: [LETTER] },
  "/api/v1/events": { total: 1, count: 1, next: null, events: [{ seq: 1, at: LONG_AGO, path: "/", kind: "state", state: "running", generation: 1 }] },
  [`/api/v1/topics/${TOPIC}/records`]: { total: 1, count: 1, next: null, previous: null, scanned: { records: 1, complete: true, partitions: [] }, records: [RECORD] },
};

/** Where each view shows a time of 2013. */
const PLACES = [["alerts", "#view tbody"], ["dead-letters", "#view tbody"], [`topics/${TOPIC}`, "#view table"], ["supervision", "#view .events"]];

/** Notes what charts write at their axes: a canvas does not tell. */
const noteLabels = () => {
  globalThis.labels = [];
  const { fillText } = CanvasRenderingContext2D.prototype;
  CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
    if (/^\d\d:\d\d$/.test(text)) globalThis.labels.push(text);
    return fillText.call(this, text, ...rest);
  };
};

/** Waits until axes are written anew, with minutes of this zone's last quarter of an hour alone. */
async function expectAxes(page, timeZone) {
  await page.evaluate(() => globalThis.labels.splice(0));
  await until(page, (zone) => {
    const minutes = new Intl.DateTimeFormat("en-US", { hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZone: zone });
    const recent = new Set(Array.from({ length: 17 }, (_, ago) => minutes.format(Date.now() - (ago - 1) * 60_000)));
    return globalThis.labels.length > 2 && globalThis.labels.every((label) => recent.has(label));
  }, timeZone);
}

export async function times() {
  for (const [view, place] of PLACES) {
    await test(`${view.split("/")[0]}: a time of 2013 has its year, in the browser's zone and after the switch in UTC`, async (page) => {
      await open(page, view);
      const expect = (text) => until(page, ([selector, wanted]) => {
        const times = [...document.querySelectorAll(selector)].flatMap((element) => [...element.querySelectorAll("time")]);
        return times.some((time) => time.textContent.replaceAll("\u00a0", " ") === wanted);
      }, [place, text]);
      await expect("Dec 24, 2013 00:30:00");
      await page.getByRole("button", { name: "Show UTC times" }).click();
      await expect("Dec 23, 2013 23:30:00");
    }, { zone: "Europe/Berlin", prepare: answerWith(PAST) });
  }

  await test("the axes of the charts are in the browser's zone, and after the switch in UTC", async (page) => {
    await open(page, "sensors");
    await expectAxes(page, "Asia/Kolkata");
    await page.getByRole("button", { name: "Show UTC times" }).click();
    await expectAxes(page, "UTC");
  }, { zone: "Asia/Kolkata", prepare: (page) => page.addInitScript(noteLabels) });

  await test("a time has its year where that is not the present one, and says in its title how long ago it is", async (page) => {
    await open(page, "alerts");
    await expectTime(page, "recent", "13:57:00");
    await expectTime(page, "spring", "Mar 1 11:00:00");
    await expectTime(page, "old", "Dec 24, 2013 00:30:00");
    const title = await shown(page, "recent").getAttribute("title");
    assert(title === "3 min ago · 2026-07-15 11:57:00.000 UTC", `the title is "${title}"`);
    await page.locator("#view .open").first().click();
    await page.clock.setFixedTime(new Date(NOW.getTime() + 120_000));
    await page.locator("#view .detail time").first().hover();
    await until(page, () => document.querySelector("#view .detail time").title.startsWith("5 min ago"));
  }, { zone: "Europe/Berlin", prepare });

  await test("times are shown in UTC after a switch, and in the next visit, too", async (page) => {
    await open(page, "alerts");
    await expectTime(page, "old", "Dec 24, 2013 00:30:00");
    await page.getByRole("button", { name: "Show UTC times" }).click();
    await expectTime(page, "old", "Dec 23, 2013 23:30:00");
    await until(page, () => document.querySelector("#fine").textContent.startsWith("Times are UTC; local ones (Europe/Berlin)"));
    await page.reload();
    await expectTime(page, "recent", "11:57:00");
    assert((await shown(page, "recent").getAttribute("title")).endsWith("13:57:00 Europe/Berlin"), "the local time is not in the title");
    await shoot(page, "times-utc");
    await page.getByRole("button", { name: "Show local times" }).click();
    await expectTime(page, "recent", "13:57:00");
    assert((await page.evaluate(() => localStorage.getItem("streamward.zone"))) === null, "the browser's own zone is remembered as a choice");
  }, { zone: "Europe/Berlin", prepare });
}
