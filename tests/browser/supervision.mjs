// The page Supervision: the tree, the chosen actor, commands, policies, drills, the last ten minutes.
import { assert, axe, base, counts, DESKTOP, EMPTY, open, PHONE, settle, shoot, test, until, WAIT } from "./harness.mjs";

const WIDE = { width: 1440, height: 900 };
const LANE = "pipelines/sensors/lane";
/** An actor of a pipeline without records: nothing else commands it. */
const IDLE = "pipelines/series/lane";

const chosenPanel = (page) => page.locator(".chosen-panel");
const chosenRow = (page, name) => page.locator('.tree tr[aria-selected="true"] .strong', { hasText: new RegExp(`^${name}$`) });
const figure = (page, name) => chosenPanel(page).locator(".figures > div", { has: page.getByText(name, { exact: true }) }).locator("dd");
const unfold = (page, name) => chosenPanel(page).locator("summary", { hasText: new RegExp(`^${name}$`) }).click();
const policyForm = (page) => page.getByRole("form", { name: "Policy" });
const find = (node, path) => (node.path === path ? node : node.children.map((child) => find(child, path)).find(Boolean));

async function openActor(page, path) {
  await open(page, `supervision/${path}`);
  await chosenPanel(page).locator(".actor-title code", { hasText: path }).waitFor(WAIT);
}

const nodeOf = async (page, path) => find(await (await page.request.get(new URL("/api/v1/supervision/tree", base).href)).json(), path);

/** The server's tree as it is now, with `change` at one actor. */
const treeWith = (path, change) => async (page) => {
  const tree = await (await page.request.get(new URL("/api/v1/supervision/tree", base).href)).json();
  Object.assign(find(tree, path), typeof change === "function" ? await change(page) : change);
  await page.route("**/api/v1/supervision/tree", (route) => route.fulfill({ json: tree }));
};

const answer = (path, json) => (page) => page.route(`**${path}`, (route) => route.fulfill({ json }));

/** An exit of which the record is a dead letter. */
async function exitWithDeadLetter(page) {
  const written = await page.request.post(new URL("/api/v1/topics/sensor-readings/records", base).href, { data: { value: "not json" } });
  const { partition, offset } = await written.json();
  return { last_exit: { generation: 1, reason: "panic", message: "index out of bounds", location: "src/step.rs:7:5", backtrace_head: "0: step", culprit: { topic: "sensor-readings", partition, offset }, injected: false, at: Date.now() } };
}

async function tree() {
  await test("the supervision tree shows actors with their state", async (page) => {
    await open(page, "supervision");
    await settle(page, "supervision");
    const rows = await page.locator(".tree tbody tr").allInnerTexts();
    assert(rows.length >= 3, `only ${rows.length} actors`);
    assert(rows.every((row) => /[a-z]/i.test(row)), "a row without text");
    assert((await counts(page)).actors >= rows.length, "the hook counts fewer actors than rows");
  });

  await test("the arrow keys walk and fold the tree", async (page) => {
    await open(page, "supervision");
    await settle(page, "supervision");
    await page.locator('.tree tbody tr[tabindex="0"]').focus();
    const all = await page.locator(".tree tbody tr").count();
    await page.keyboard.press("ArrowLeft");
    await until(page, (count) => document.querySelectorAll(".tree tbody tr").length < count, all);
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("ArrowDown");
    const chosen = await page.evaluate(() => [...document.querySelectorAll(".tree tbody tr")].indexOf(document.activeElement));
    assert(chosen === 1, `row ${chosen} has the focus`);
  });

  await test("a rising restart count is set off", async (page) => {
    const root = structuredClone(EMPTY["/api/v1/supervision/tree"]);
    await page.route("**/api/v1/supervision/tree", (route) => route.fulfill({ json: root }));
    await open(page, "supervision");
    await until(page, () => document.querySelectorAll(".tree tbody tr").length === 1);
    root.restarts = 2;
    root.last_exit = { reason: "panic", message: "<b>boom</b>", at: Date.now(), culprit: null };
    await page.locator(".tree tr.flash", { hasText: "2 (+2)" }).waitFor(WAIT);
    assert((await page.locator(".tree .exit").innerText()).includes("<b>boom</b>"), "markup in a message is not shown as text");
  });

  await test("rate, times and queue of an actor stand in the tree and beside it", async (page) => {
    await openActor(page, LANE);
    const row = page.locator('.tree tr[aria-selected="true"]');
    for (const text of ["34.5/s", "850 µs / 4.2 ms", "60 / 64"]) await row.getByText(text).waitFor(WAIT);
    await figure(page, "Queue p50 / p99").getByText("90 µs / 12 ms").waitFor(WAIT);
    await figure(page, "Oldest message").getByText("1.8 s").waitFor(WAIT);
  }, { prepare: treeWith(LANE, { rate_per_s: 34.5, step_us: { p50: 850, p99: 4200, count: 900 }, queue_us: { p50: 90, p99: 12_400, count: 900 }, inbox: { depth: 60, capacity: 64, oldest_ms: 1800, blocked_ms: 0 } }), viewport: WIDE });

  await test("what an actor waits for is chosen by its link, even where it is folded away", async (page) => {
    await openActor(page, LANE);
    await page.locator(".tree tr", { hasText: /^platform/ }).locator(".fold").click();
    await page.locator(".tree tr", { hasText: /^broker/ }).waitFor({ state: "detached", ...WAIT });
    await chosenRow(page, "lane").waitFor(WAIT);
    await figure(page, "Waiting on").getByRole("link", { name: "log" }).click();
    await chosenRow(page, "broker").waitFor(WAIT);
    assert(page.url().endsWith("#/supervision/platform/broker"), `the address is ${page.url()}`);
  }, { prepare: treeWith(LANE, { waiting_on: { on: "log", actor: "platform/broker", for_ms: 1240 } }) });

  await test("an exit leads to its record and to the record's dead letter", async (page) => {
    await openActor(page, LANE);
    const address = await chosenPanel(page).getByRole("link", { name: "Show the record" }).getAttribute("href");
    await chosenPanel(page).getByRole("link", { name: "Its dead letter: decode" }).click();
    await until(page, () => document.querySelector("h1").textContent === "Dead letters" && document.querySelectorAll("#view .open").length === 1);
    await page.locator("#view .open").click();
    await page.locator(".detail .raw", { hasText: "not json" }).first().waitFor(WAIT);
    await page.goto(new URL(address, base).href);
    await until(page, () => document.querySelector("h1").textContent === "sensor-readings" && document.querySelector("#view td.place"));
    const [partition, offset] = ["partition", "offset"].map((name) => new URLSearchParams(address.split("?")[1]).get(name));
    assert((await page.locator("#view td.place").first().innerText()).startsWith(`${partition} / ${offset}`), "another record is shown");
  }, { prepare: treeWith(LANE, exitWithDeadLetter) });
}

async function drills() {
  await test("a drill is run, reported, seen in the tree and in the last ten minutes", async (page) => {
    await openActor(page, LANE);
    const { restarts } = await nodeOf(page, LANE);
    await unfold(page, "Drill");
    const flash = page.locator(".tree tr.flash", { hasText: `${restarts + 1} (+1)` }).waitFor(WAIT);
    await page.getByRole("button", { name: "Run drill" }).click();
    await page.locator(".report .badge", { hasText: "recovered" }).waitFor(WAIT);
    await flash;
    const report = await page.locator(".report").innerText();
    for (const text of ["panic × 1, at “process”", "as panic", "→", "Lost\n0", "Duplicated\n0", "Reordered\n0"]) assert(report.includes(text), `the report lacks "${text}": ${report}`);
    await figure(page, "Restarts").getByText(String(restarts + 1), { exact: true }).waitFor(WAIT);
    const lane = page.locator(".lane", { hasText: LANE });
    await lane.locator(".mark-exit.tone-panic title", { hasText: "drill, panic: injected panic" }).first().waitFor({ state: "attached", ...WAIT });
    for (const kind of ["drill", "restart"]) await lane.locator(`.mark-${kind}`).first().waitFor({ state: "attached", ...WAIT });
    await page.locator(".events li", { hasText: "injects: panic" }).first().waitFor(WAIT);
    await page.locator(".tree tbody tr").first().click();
    await chosenRow(page, "root").waitFor(WAIT);
    await lane.locator(".mark-exit path").first().click();
    await chosenRow(page, "lane").waitFor(WAIT);
    await page.locator(".report").waitFor(WAIT);
  });

  await test("a fault that is refused is said", async (page) => {
    await openActor(page, LANE);
    await unfold(page, "Drill");
    await page.getByLabel("Times", { exact: true }).fill("many");
    await page.getByRole("button", { name: "Run drill" }).click();
    await page.locator(".drill .said[data-tone=bad]").waitFor(WAIT);
  });

  await test("where drills are off, the console says how to switch them on", async (page) => {
    await openActor(page, LANE);
    await unfold(page, "Drill");
    await chosenPanel(page).locator(".drill code", { hasText: "drills.enabled: true" }).waitFor(WAIT);
    assert(!(await page.getByRole("button", { name: "Run drill" }).isVisible()), "the form is shown");
  }, { prepare: answer("/api/v1/supervision", { drills: false, faults: [] }) });

  await test("the faults that the server knows are offered", async (page) => {
    await openActor(page, LANE);
    await unfold(page, "Drill");
    await page.getByLabel("Fault").selectOption("slow");
    await page.getByText("Each step takes longer.").waitFor(WAIT);
    await page.getByLabel("For, in ms").waitFor(WAIT);
    await page.locator(".tree tbody tr").first().click();
    await chosenRow(page, "root").waitFor(WAIT);
    assert(!(await page.getByRole("button", { name: "Run drill" }).isVisible()), "a supervisor takes no faults");
  }, { prepare: answer("/api/v1/supervision", { drills: true, faults: [{ fault: "panic", takes_millis: false, about: "It panics." }, { fault: "slow", takes_millis: true, about: "Each step takes longer." }] }) });
}

async function policies() {
  await test("a policy is changed, and a wrong value is refused at its field", async (page) => {
    await openActor(page, IDLE);
    await unfold(page, "Policy");
    const form = policyForm(page);
    const before = (await nodeOf(page, IDLE)).policy;
    await form.getByLabel("Longest delay").fill("soon");
    await form.getByRole("button", { name: "Save" }).click();
    await form.locator("#policy-backoff-max-fault", { hasText: "is not a duration" }).waitFor(WAIT);
    assert((await form.getByLabel("Longest delay").getAttribute("aria-invalid")) === "true", "the field is not marked");
    const max = before.backoff.max === "20s" ? "25s" : "20s";
    await form.getByLabel("Longest delay").fill(max);
    const [request] = await Promise.all([page.waitForRequest((one) => one.method() === "PATCH"), form.getByRole("button", { name: "Save" }).click()]);
    assert(request.postData() === JSON.stringify({ backoff: { max } }), `sent: ${request.postData()}`);
    await chosenPanel(page).locator(".said[data-tone=good]", { hasText: "Saved: backoff.max." }).waitFor(WAIT);
    const after = (await nodeOf(page, IDLE)).policy;
    assert(JSON.stringify(after) === JSON.stringify({ ...before, backoff: { ...before.backoff, max } }), "something else changed");
    await page.reload();
    await unfold(page, "Policy");
    await until(page, (wanted) => document.querySelector("#policy-backoff-max").value === wanted, max);
    await page.locator(".lane", { hasText: IDLE }).locator(".mark-command").first().waitFor({ state: "attached", ...WAIT });
  });

  await test("a supervisor's window is changed, and a change can be taken back before it is saved", async (page) => {
    await openActor(page, "pipelines/series");
    await unfold(page, "Policy");
    const most = policyForm(page).getByLabel("Most restarts");
    const before = await most.inputValue();
    const wanted = String(Number(before) + 1);
    await most.fill(wanted);
    await policyForm(page).getByRole("button", { name: "Undo" }).click();
    assert((await most.inputValue()) === before, "the value is not the old one");
    await most.fill(wanted);
    await policyForm(page).getByRole("button", { name: "Save" }).click();
    await figure(page, "Own window").getByText(` of ${wanted} in `).waitFor(WAIT);
  });
}

async function commands() {
  await test("a restart is asked again, can be taken back, and is carried out", async (page) => {
    await openActor(page, IDLE);
    const { generation } = await nodeOf(page, IDLE);
    const restart = chosenPanel(page).getByRole("button", { name: "Restart", exact: true });
    await restart.click();
    await page.keyboard.press("Escape");
    await until(page, () => document.activeElement.textContent === "Restart");
    assert((await nodeOf(page, IDLE)).generation === generation, "it was restarted unasked");
    await restart.click();
    await chosenPanel(page).getByRole("button", { name: "Restart it" }).click();
    await figure(page, "Generation").getByText(String(generation + 1), { exact: true }).waitFor(WAIT);
  });

  await test("an actor is paused and goes on", async (page) => {
    await openActor(page, IDLE);
    await chosenPanel(page).getByRole("button", { name: "Pause" }).click();
    await chosenPanel(page).locator(".actor-title .badge", { hasText: "paused" }).waitFor(WAIT);
    await chosenPanel(page).getByRole("button", { name: "Resume" }).click();
    await chosenPanel(page).locator(".actor-title .badge", { hasText: "running" }).waitFor(WAIT);
  });

  await test("events are shown as they happen, without a poll", async (page) => {
    const opened = page.waitForEvent("websocket", { predicate: (socket) => socket.url().endsWith("/ws/supervision"), ...WAIT });
    await openActor(page, IDLE);
    await (await opened).waitForEvent("framereceived", WAIT);
    // What happened before the feed began is known by a poll.
    await page.waitForResponse("**/api/v1/events?*", WAIT);
    await page.locator(".events li").first().waitFor(WAIT);
    await page.route("**/api/v1/events?*", (route) => route.fulfill({ json: EMPTY["/api/v1/events"] }));
    const before = await page.locator(".events li", { hasText: "resume" }).count();
    await chosenPanel(page).getByRole("button", { name: "Resume" }).click();
    await until(page, (count) => [...document.querySelectorAll(".events li")].filter((item) => item.textContent.includes("resume")).length > count, before);
  });

  await test("what the server refuses is said in its words", async (page) => {
    await open(page, "supervision");
    await chosenPanel(page).getByRole("button", { name: "Restart", exact: true }).click();
    await chosenPanel(page).getByRole("button", { name: "Restart it" }).click();
    await chosenPanel(page).locator(".said[data-tone=bad]", { hasText: "the root cannot be restarted" }).waitFor(WAIT);
  });

  await test("what the token may not do is switched off, with the reason", async (page) => {
    await openActor(page, LANE);
    await chosenPanel(page).getByText("This needs an access token with the role operator; the one in use has viewer.").waitFor(WAIT);
    for (const name of ["Restart", "Pause", "Resume", "Drain"]) assert(await chosenPanel(page).getByRole("button", { name, exact: true }).isDisabled(), `${name} is not`);
    await unfold(page, "Drill");
    await unfold(page, "Policy");
    assert(await page.getByRole("button", { name: "Run drill" }).isDisabled(), "the drill is not");
    assert(await policyForm(page).getByLabel("Longest delay").isDisabled(), "the policy is not");
  }, { prepare: answer("/api/v1/caller", { name: "vera", role: "viewer" }) });
}

/** Of a drill that did not end well; the server's own would use up the restarts that the pipeline may have. */
const REPORT = {
  path: LANE, fault: { fault: "stall", times: 1, millis: 90_000 }, point: "process", detected_after_ms: 30_012, recovered_after_ms: null, generation_before: 2, generation: 3, state: "backing_off",
  exit: { reason: "stuck" }, records: { passed: 12, lost: 1, duplicated: 0, reordered: 0 },
};

async function looks() {
  for (const scheme of ["light", "dark"]) {
    for (const [size, viewport] of [["desktop", DESKTOP], ["phone", PHONE]]) {
      await test(`axe finds nothing serious in an actor with all its parts open, ${size}, ${scheme}`, async (page) => {
        await openActor(page, LANE);
        await page.locator(".lane").first().waitFor(WAIT);
        await unfold(page, "Drill");
        await unfold(page, "Policy");
        await page.getByRole("button", { name: "Run drill" }).click();
        await page.locator(".report .badge", { hasText: "not recovered" }).waitFor(WAIT);
        await policyForm(page).getByLabel("Growth of the delay").fill("0");
        await policyForm(page).getByRole("button", { name: "Save" }).click();
        await page.locator("#policy-backoff-factor-fault", { hasText: "1 to 100" }).waitFor(WAIT);
        await chosenPanel(page).getByRole("button", { name: "Drain", exact: true }).click();
        await axe(page, "actor");
        await shoot(page, `actor-${size}-${scheme}`);
        assert((await page.evaluate(() => document.documentElement.scrollWidth)) <= viewport.width, "the page scrolls sideways");
      }, { viewport, scheme, prepare: answer("/drill", REPORT) });
    }
  }
}

export async function supervision() {
  await tree();
  await drills();
  await policies();
  await commands();
  await looks();
}
