// A reader's whole way in Chromium, and what a second reader sees of it. usage: node story.mjs PLAN.json
// The plan: {origin, password, link, answers: [SELECTOR, ...], comment, study, shots: FOLDER}.
// Prints one JSON line. Every click that is no answer goes through `click`, which counts it.
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const plan = JSON.parse(readFileSync(process.argv[2], "utf8"));
const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: [
    "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-quic", "--no-first-run",
  ],
});
const seen = { errors: [], elsewhere: [], clicks: 0 };
const shot = (page, name) => page.screenshot({ path: `${plan.shots}/${name}.png` });

async function signedIn(name) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
  context.setDefaultTimeout(45000);
  context.on("request", (one) => {
    if (!one.url().startsWith(plan.origin) && !/^(data|blob|about):/.test(one.url())) seen.elsewhere.push(one.url());
  });
  const page = await context.newPage();
  page.on("pageerror", (error) => seen.errors.push(String(error).slice(0, 300)));
  await page.goto(`${plan.origin}/sign-in?next=/account`);
  await page.fill("#name", name);
  await page.fill("#password", plan.password);
  await page.press("#password", "Enter");
  await page.waitForURL((url) => url.pathname !== "/sign-in");
  return page;
}

const numbers = (page) =>
  page.evaluate(() => ({
    rows: [...document.querySelectorAll("#measurements tbody tr")].map((row) => row.innerText.replace(/\s+/g, " ").trim()),
    points: [...document.querySelectorAll("[data-plot] script")]
      .flatMap((one) => JSON.parse(one.textContent).lines)
      .map((line) => [line.label, line.points.length]),
  }));

// What the interfaces tell this reader of the case.
const told = (page, id) =>
  page.evaluate(async ([id, study]) => {
    const json = async (path) => {
      const answer = await fetch(path, { headers: { Accept: "application/json" } });
      return answer.ok ? answer.json() : answer.status;
    };
    return {
      readings: await json(`/api/v1/cases/${id}/readings`),
      case: JSON.stringify(await json(`/api/v1/cases/${id}`)),
      drawn: (await json(`/dicom-web/studies/${study}/series?Modality=SEG`)).length,
      page: document.body.innerText,
    };
  }, [id, plan.study]);

const inViewer = (page) =>
  page.waitForFunction(() => {
    const inside = document.querySelector(".pane iframe")?.contentWindow;
    try {
      return inside.services.segmentationService.getSegmentations().length > 0;
    } catch {
      return false; // it is not there yet
    }
  });

// From the button in the PACS: the case, its answers, submit.
const rosa = await signedIn("rosa");
const click = (selector) => { seen.clicks += 1; return rosa.click(selector); };
await rosa.goto(plan.origin + plan.link);
const id = new URL(rosa.url()).pathname.split("/").pop();
await inViewer(rosa);
seen.before = await numbers(rosa);
await shot(rosa, "1-case-from-the-link");

// Meanwhile the brush, in the viewer's own tab; the page behind is not loaded again.
await rosa.evaluate(() => { window.same = true; });
const editor = await rosa.context().newPage();
await editor.goto(`${plan.origin}/cases/${id}/viewer?mode=edit`);
await editor.getByRole("button", { name: "Save version" }).waitFor();
const box = await editor.locator(".cornerstone-canvas").first().boundingBox();
await editor.mouse.move(box.x + box.width * 0.35, box.y + box.height * 0.6);
await editor.mouse.down();
await editor.mouse.move(box.x + box.width * 0.35 + 40, box.y + box.height * 0.6 + 30, { steps: 6 });
await editor.mouse.up();
await editor.getByText("Not saved yet.").waitFor();
await shot(editor, "2-painted-with-the-brush");
await editor.getByRole("button", { name: "Save version" }).click();
await editor.getByRole("status").getByText("Saved as your version").waitFor();
await rosa.waitForFunction((n) => document.querySelectorAll("#measurements tbody tr").length > n, seen.before.rows.length);
seen.after = await numbers(rosa);
seen.isSamePage = await rosa.evaluate(() => window.same === true);
await rosa.bringToFront();
await shot(rosa, "3-new-row-and-point");
await editor.close({ runBeforeUnload: false });

for (const answer of plan.answers) await rosa.click(answer);
await rosa.fill("textarea[name='/comment']", plan.comment);
await shot(rosa, "4-answered");
await click(".actions [type=submit]");
await rosa.waitForURL((url) => url.pathname !== `/cases/${id}` && url.pathname.startsWith("/cases/"));
seen.next = new URL(rosa.url()).pathname;
await shot(rosa, "5-next-case");
seen.own = await told(rosa, id);

// The second reader, who has not read it.
const roy = await signedIn("roy");
await roy.goto(plan.origin + plan.link);
await inViewer(roy);
seen.numbersOfOther = await numbers(roy);
seen.other = await told(roy, id);
await shot(roy, "6-second-reader");
console.log(JSON.stringify({ ...seen, id }));
await browser.close();
