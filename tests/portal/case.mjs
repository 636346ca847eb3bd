// Drives Chromium over a case's page: its plot, the choice of the baseline, and how soon it is useful.
// usage: node case.mjs PLAN.json
// The plan: {origin, name, password, case, act: "use" | "time" | "wait", runs?, width?, shot?}; of "wait" also
// {ready: FILE, written once the page listens, expect: words of the table}. Prints one JSON line.
import { readFileSync, writeFileSync } from "node:fs";
import { chromium } from "playwright-core";

const plan = JSON.parse(readFileSync(process.argv[2], "utf8"));
const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"],
});
const context = await browser.newContext({ viewport: { width: plan.width ?? 1440, height: 900 } });
const page = await context.newPage();
const seen = { refused: [], errors: [] };
page.on("console", (message) => {
  if (/Content Security Policy/.test(message.text())) seen.refused.push(message.text().slice(0, 300));
});
page.on("pageerror", (error) => seen.errors.push(String(error).slice(0, 300)));
if (plan.act !== "time") await page.route(/\/cases\/[^/]+\/viewer/, (route) => route.abort());

await page.goto(`${plan.origin}/sign-in?next=/account`);
await page.fill("#name", plan.name);
await page.fill("#password", plan.password);
await page.press("#password", "Enter");
await page.waitForURL((url) => url.pathname !== "/sign-in");

const address = `${plan.origin}/cases/${plan.case}`;
const useful = () => performance.getEntriesByName("case-useful").length > 0;
const points = () => JSON.parse(document.querySelector("#plot script").textContent).lines.map((line) => line.points.length);
const words = () => document.querySelector("#measurements table.course")?.innerText ?? "";

if (plan.act === "time") {
  seen.runs = [];
  for (let run = 0; run < (plan.runs ?? 5); run += 1) {
    const fresh = await browser.newContext({ viewport: { width: 1440, height: 900 }, storageState: await context.storageState() });
    const tab = await fresh.newPage();
    await tab.goto(address, { waitUntil: "commit" });
    await tab.waitForFunction(useful);
    await tab.waitForFunction(() => document.querySelector(".plot canvas") !== null);
    const cold = await tab.evaluate(measure);
    await tab.goto(address, { waitUntil: "commit" }); // again, with what the browser has kept
    await tab.waitForFunction(useful);
    seen.runs.push({ cold, warm: await tab.evaluate(measure) });
    await fresh.close();
  }
} else if (plan.act === "wait") {
  const listening = page.waitForResponse((response) => response.url().endsWith("/events"));
  await page.goto(address);
  await page.waitForFunction(useful);
  await listening;
  await page.evaluate(() => { window.same = true; });
  seen.pointsBefore = await page.evaluate(points);
  writeFileSync(plan.ready, "");
  await page.waitForFunction((expect) => document.querySelector("#measurements")?.innerText.includes(expect), plan.expect);
  seen.isSamePage = await page.evaluate(() => window.same === true);
  seen.points = await page.evaluate(points);
  seen.canvases = await page.locator("#plot canvas").count();
} else {
  await page.goto(address);
  await page.waitForFunction(useful);
  seen.canvases = await page.locator("#plot canvas").count();
  seen.inked = await page.evaluate(() => {
    const canvas = document.querySelector("#plot canvas");
    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    return data.some((value, index) => index % 4 === 3 && value > 0);
  });
  seen.tops = await page.evaluate(() => ["summary", "plot", "measurements"].map((id) => document.getElementById(id).offsetTop));
  seen.before = await page.evaluate(words);
  await page.evaluate(() => { window.same = true; });
  await page.focus("#from"); // by keyboard alone: the last choice
  await page.keyboard.press("End");
  await page.waitForURL(/baseline=/);
  await page.waitForFunction(([before]) => document.querySelector("#measurements table.course").innerText !== before, [seen.before]);
  await page.waitForSelector("#plot canvas"); // drawn anew, a moment after its numbers
  seen.after = await page.evaluate(words);
  seen.address = new URL(page.url()).search;
  seen.isSamePage = await page.evaluate(() => window.same === true);
  seen.focus = await page.evaluate(() => document.activeElement.id);
  seen.canvasesAfter = await page.locator("#plot canvas").count();
  seen.topsAfter = await page.evaluate(() => ["summary", "plot", "measurements"].map((id) => document.getElementById(id).offsetTop));
  await page.focus("#plot .canvas");
  await page.keyboard.press("ArrowLeft");
  seen.told = await page.textContent("#plot .hover");
  const box = await page.locator("#plot .u-over").boundingBox();
  for (let x = 0; x < box.width && !seen.hovered; x += 4) {
    for (let y = 4; y < box.height && !seen.hovered; y += 8) {
      await page.mouse.move(box.x + x, box.y + y);
      seen.hovered = (await page.locator("#plot .may-open").count()) ? await page.textContent("#plot .hover") : "";
    }
  }
  if (plan.shot) await page.screenshot({ path: plan.shot });
  await page.mouse.down();
  await page.mouse.up();
  await page.waitForURL((url) => !url.pathname.includes(plan.case));
  seen.opened = new URL(page.url()).pathname;
}
console.log(JSON.stringify(seen));
await browser.close();

function measure() {
  const [navigation] = performance.getEntriesByType("navigation");
  const own = performance.getEntriesByType("resource").filter((one) => /\.(css|js)$/.test(new URL(one.name).pathname));
  return {
    useful: performance.getEntriesByName("case-useful")[0].startTime,
    answered: navigation.responseEnd,
    bytes: [navigation, ...own].map((one) => ({ name: new URL(one.name).pathname, sent: one.transferSize, size: one.decodedBodySize })),
  };
}
