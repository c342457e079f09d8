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

export async function times() {
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
