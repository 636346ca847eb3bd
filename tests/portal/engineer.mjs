// An engineer in Chromium: drops a file on the routes, leafs through a mask, follows the timeline.
// usage: node engineer.mjs PLAN.json; the plan: {origin, name, password, job, file, out}
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const plan = JSON.parse(readFileSync(process.argv[2], "utf8"));
const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"],
});
const page = await (await browser.newContext({ viewport: { width: 1280, height: 900 } })).newPage();
const seen = { errors: [] };
page.on("console", (message) => { if (message.type() === "error") seen.errors.push(message.text().slice(0, 300)); });
page.on("pageerror", (error) => seen.errors.push(String(error).slice(0, 300)));

await page.goto(`${plan.origin}/sign-in`);
await page.fill("#name", plan.name);
await page.fill("#password", plan.password);
await page.press("#password", "Enter");
await page.waitForURL((url) => url.pathname !== "/sign-in");

await page.goto(`${plan.origin}/routes`);
await page.fill("#called", "OVERREAD");
const data = await page.evaluateHandle(async (bytes) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([new Uint8Array(bytes)], "dropped.dcm"));
  return transfer;
}, [...readFileSync(plan.file)]);
await page.dispatchEvent("#drop", "drop", { dataTransfer: data });
await page.waitForSelector("#tried article .pill");
seen.tried = (await page.textContent("#tried")).replace(/\s+/g, " ").trim();
await page.screenshot({ path: `${plan.out}/routes.png`, fullPage: true });

await page.goto(`${plan.origin}/jobs/${plan.job}`);
await page.click('.timeline a[href="#step-mask"]');
seen.opened = await page.evaluate(() => document.getElementById("step-mask").open);
seen.widths = await page.$$eval(".timeline rect", (bars) => bars.map((bar) => bar.getBoundingClientRect().width));
await page.screenshot({ path: `${plan.out}/job.png`, fullPage: true });

await page.click("#step-mask a.btn");
await page.waitForSelector("[data-slices] img");
const shown = () => page.$eval("[data-slices] img", async (picture) => {
  await picture.decode();
  return [new URL(picture.src).pathname.split("/").pop(), picture.naturalWidth];
});
seen.first = await shown();
await page.focus("[data-slices] input");
await page.keyboard.press("ArrowRight");
seen.second = await shown();
await page.screenshot({ path: `${plan.out}/step.png`, fullPage: true });

console.log(JSON.stringify(seen));
await browser.close();
