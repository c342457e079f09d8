// The page Alerts: an alert from the record that fired it to the record that resolved it.
import { assert, axe, base, changed, looks, open, shoot, test, until, WAIT } from "./harness.mjs";

const CONDITION = "sensor_type = 'temperature' AND value > 80";

const write = (page, key, value, at) =>
  page.request.post(new URL("/api/v1/streams/sensors/records", base).href, {
    data: { sensor_id: key, sensor_type: "temperature", value, timestamp: new Date(at).toISOString(), location: "lab", anomaly: false, metadata: { battery_level: 80, signal_strength: -40 } },
  });

const row = (page, key) => page.locator("#view tbody tr:not(.detail)", { hasText: key }).first();
const detailOf = (page, key) => page.locator("#view tbody", { hasText: key }).locator(".detail").first();
const part = (page, key, title) => detailOf(page, key).locator(".split > div", { has: page.getByRole("heading", { name: title }) });
const fact = (page, key, name) => detailOf(page, key).locator(".facts > div", { has: page.getByText(name, { exact: true }) }).locator("dd").first();

const state = (page, key, text) => row(page, key).locator("td.wide .badge", { hasText: text }).waitFor(WAIT);

async function lives() {
  await test("an alert shows the record that fired it, and once it is resolved the other one beside it", async (page) => {
    const [key, at] = [`hot-${Date.now()}`, Date.now() - 5000];
    await write(page, key, 91.5, at);
    await open(page, "alerts");
    await state(page, key, "firing");
    await row(page, key).getByRole("button").click();
    await part(page, key, "Record that fired it").getByText("91.5").waitFor(WAIT);
    await part(page, key, "Record that resolved it").getByText("it still fires").waitFor(WAIT);
    await write(page, key, 20.25, at + 3000);
    await part(page, key, "Record that resolved it").getByText("20.25").waitFor(WAIT);
    assert((await part(page, key, "Record that fired it").innerText()).includes("91.5"), "the record that fired is gone");
    await state(page, key, "resolved");
    await page.reload();
    await state(page, key, "resolved");
    const text = await row(page, key).innerText();
    for (const said of [CONDITION, "for 3.0 s"]) assert(text.includes(said), `the row lacks "${said}": ${text}`);
    assert(!text.includes("no longer holds"), `the row says how it ended: ${text}`);
    await row(page, key).getByRole("button").click();
    await fact(page, key, "Lasted").getByText("3.0 s").waitFor(WAIT);
    await fact(page, key, "Condition").getByText(CONDITION).waitFor(WAIT);
    await part(page, key, "Record that fired it").getByRole("link").click();
    await until(page, () => document.querySelector("h1").textContent === "sensor-readings" && document.querySelector("#view td.place"));
    await page.locator("#view table.rows tbody tr:not(.detail)").first().getByText("91.5").waitFor(WAIT);
  });

  await test("an alert that the server ended says so in place of a record", async (page) => {
    await open(page, "alerts");
    await row(page, "old-probe").getByRole("button").click();
    await part(page, "old-probe", "Record that resolved it").getByText("rule pressure_max is not configured any more").waitFor(WAIT);
    await fact(page, "old-probe", "Lasted").getByText("2 min").waitFor(WAIT);
    assert((await part(page, "old-probe", "Record that resolved it").locator(".raw").count()) === 0, "a record is shown");
  }, { prepare: ended });
}

/** An alert whose rule was taken out of the configuration. */
const ENDED = {
  alert_id: "ended", id: 7, n: 1, rule: "pressure_max", stream: "sensors", severity: "warning", state: "resolved", topic: "sensor-readings", partition: 0, key: "old-probe", condition: "value > 1100", undeliverable: null,
  message: "resolved by the server: rule pressure_max is not configured any more", event_time: "2024-05-01T10:00:00Z", created_at: "2024-05-01T10:02:01Z", offset: 4, record: { sensor_id: "old-probe", value: 1101 },
  fired: { event_time: "2024-05-01T10:00:00Z", created_at: "2024-05-01T10:00:01Z", offset: 4, message: "value > 1100 holds for old-probe", record: { sensor_id: "old-probe", value: 1101 } },
  resolved: { by: "server", event_time: null, created_at: "2024-05-01T10:02:01Z", offset: null, message: "resolved by the server: rule pressure_max is not configured any more", record: null },
};

const ended = changed("/api/v1/alerts", (body) => {
  body.alerts.unshift(ENDED);
  body.total += 1;
});

export async function alerts() {
  await lives();
  await looks("axe finds nothing serious in an opened alert", async (page, name) => {
    await open(page, "alerts");
    await row(page, "old-probe").getByRole("button").click();
    await fact(page, "old-probe", "Condition").waitFor(WAIT);
    await axe(page, "alert");
    await shoot(page, `alert-${name}`);
  }, { prepare: ended });
}
