// Makes the README's picture of the page Supervision after a drill, docs/img/supervision.png.
// Usage: as console.mjs, against `streamward run --set drills.enabled=true`, with the picture's path as second argument.
import { base, finish, open, test, WAIT } from "./harness.mjs";

const [, , , path = "supervision.png"] = process.argv;
const drill = (page, actor, fault) =>
  page.request.post(new URL(`/api/v1/supervision/pipelines/sensors/${actor}/drill`, base).href, { data: { fault, times: 1, within_ms: 30_000 } });

await test("the page Supervision after two drills", async (page) => {
  await drill(page, "sink", "error");
  await open(page, "supervision/pipelines/sensors/lane");
  await page.locator(".tree tbody tr").first().waitFor(WAIT);
  await drill(page, "lane", "panic");
  await page.getByText("Record in hand:").waitFor(WAIT);
  await page.getByText("Show the record").waitFor(WAIT);
  await page.screenshot({ path });
}, { viewport: { width: 1440, height: 1000 } });

await finish();
