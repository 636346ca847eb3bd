// Drives Chromium through the lists. usage: node worklist.mjs PLAN.json
// The plan: {origin, name, password, shots: {NAME: {path, width, file}}, live?: {path, ask}}
// With `live` it opens a list, prints a line {"ready": true}, and then for each line it reads from
// stdin {do, ...} answers with a line of what it sees. The last line is what went wrong.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const plan = JSON.parse(readFileSync(process.argv[2], "utf8"));
const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic", "--no-first-run"],
});
const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
const page = await context.newPage();
const seen = { elsewhere: [], errors: [], refused: [] };
context.on("request", (request) => {
  if (!request.url().startsWith(plan.origin) && !/^(data|blob|about):/.test(request.url())) seen.elsewhere.push(request.url());
});
page.on("console", (message) => {
  if (/Content Security Policy/.test(message.text())) seen.refused.push(message.text().slice(0, 300));
});
page.on("pageerror", (error) => seen.errors.push(String(error).slice(0, 300)));
const say = (words) => process.stdout.write(`${JSON.stringify(words)}\n`);

await page.goto(`${plan.origin}/sign-in`);
await page.fill("#name", plan.name);
await page.fill("#password", plan.password);
await page.press("#password", "Enter");
await page.waitForURL((url) => url.pathname !== "/sign-in");

for (const { path, width, file, height } of plan.shots ?? []) {
  await page.setViewportSize({ width, height: height ?? 900 });
  await page.goto(plan.origin + path);
  await page.screenshot({ path: file });
}

const look = () => page.evaluate(() => ({
  path: location.pathname,
  heading: document.querySelector("h1")?.textContent,
  rows: [...document.querySelectorAll("table[data-keys] tbody tr[id]")].map((row) => row.id),
  states: [...document.querySelectorAll("table[data-keys] tbody tr[id]")].map((row) => row.lastElementChild.textContent.trim()),
  focus: document.activeElement?.closest("tr[id]")?.id ?? null,
  live: document.querySelector("[data-live-state]")?.textContent ?? null,
  shift: window.shifted ?? 0,
}));

if (plan.live) {
  await page.setViewportSize({ width: 1440, height: 900 });
  await page.goto(plan.origin + plan.live);
  await page.evaluate(() => {
    window.shifted = 0;
    new PerformanceObserver((list) => list.getEntries().forEach((one) => { window.shifted += one.value; }))
      .observe({ type: "layout-shift", buffered: false });
  });
  say({ ready: true, ...(await look()) });
  for await (const line of createInterface({ input: process.stdin })) {
    const { press, click, hover, until } = JSON.parse(line);
    if (press) await page.keyboard.press(press);
    if (hover) await page.hover(hover);
    if (click) await page.click(click);
    if (until) await page.waitForFunction((text) => [...document.querySelectorAll("[data-keys], [data-live-state]")].some((one) => one.textContent.includes(text)), until, { timeout: 20000 });
    say(await look());
  }
}
say(seen);
await browser.close();
