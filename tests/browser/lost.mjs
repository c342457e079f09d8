// Addresses that lead nowhere: one sentence, once, with the way back.
import { assert, axe, base, looks, shoot, test, until, WAIT } from "./harness.mjs";

const CASES = [
  ["nonsense", "There is no page nonsense.", "Overview"],
  ["toString", "There is no page toString.", "Overview"],
  ["overview/more", "There is no page overview/more.", "Overview"],
  ["alerts/4711", "There is no page alerts/4711.", "Alerts"],
  ["nonsense/of/mine", "There is no page nonsense.", "Overview"],
  ["topics/nothing", "There is no topic nothing.", "All topics"],
  ["topics/nothing?partition=0&offset=3", "There is no topic nothing.", "All topics"],
  ["supervision/pipelines/nothing", "There is no actor pipelines/nothing.", "All actors"],
  ["supervision/pipelines/series/nothing", "There is no actor pipelines/series/nothing.", "All actors"],
];

async function expectNotFound(page, address, sentence) {
  await page.goto(new URL(`#/${address}`, base).href);
  await page.locator(".not-found .empty-title", { hasText: sentence }).waitFor(WAIT);
  assert((await page.locator("h1").innerText()) === "Not found" && (await page.title()) === "Not found · Streamward", `${address}: the title says something else`);
  const panels = await page.locator("#view > *").count();
  assert(panels === 1, `${address}: ${panels} parts are shown`);
  assert((await page.locator(".banner").count()) === 0, `${address}: a banner says it again`);
}

export async function lost() {
  for (const [address, sentence, back] of CASES) {
    await test(`#/${address} is not found, and a link leads back`, async (page) => {
      await expectNotFound(page, address, sentence);
      await page.locator(".not-found").getByRole("link", { name: back, exact: true }).click();
      await until(page, () => document.querySelector("h1").textContent !== "Not found" && !document.querySelector(".not-found"));
    });
  }
  await test("a topic that is deleted while it is looked at is not found any more", async (page) => {
    const name = `gone-${Date.now()}`;
    await page.request.post(new URL("/api/v1/topics", base).href, { data: { name } });
    await page.goto(new URL(`#/topics/${name}`, base).href);
    await until(page, () => document.querySelector("#view .panel-note")?.textContent.includes("0 records"));
    await page.request.delete(new URL(`/api/v1/topics/${name}`, base).href);
    await page.locator(".not-found .empty-title", { hasText: `There is no topic ${name}.` }).waitFor(WAIT);
  });
  await looks("axe finds nothing serious where nothing is found", async (page, name) => {
    await expectNotFound(page, "topics/nothing", "There is no topic nothing.");
    await axe(page, "not found");
    await shoot(page, `not-found-${name}`);
  });
}
