// Opens pages of a running portal in Chromium and says what is wrong with them.
// usage: node axe.mjs PLAN.json
// The plan: {origin, users: {NAME: PASSWORD}, pages: [{name, path, as, status?}], shots?: FOLDER, extra?: [WIDTH]}
// Each page is opened once at 1280 px in dark, then shown in light, then at 3840 px in both. axe-core
// runs with all its rules at 1280 dark and 3840 light, and with its contrast rules at the other two.
// Prints one JSON line: for each page its faults, how far it overflows, how much its layout shifted.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const plan = JSON.parse(readFileSync(process.argv[2], "utf8"));
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const HEIGHT = { 1280: 900, 1440: 900, 3840: 2160 };
const WORST = ["serious", "critical"];

const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-quic", "--no-first-run",
  ],
});
const elsewhere = [], refused = [], errors = [];

async function signedIn(name) {
  const context = await browser.newContext({ viewport: { width: 1280, height: HEIGHT[1280] } });
  context.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(plan.origin) && !/^(data|blob|about):/.test(url)) elsewhere.push(url);
  });
  // The viewer is OHIF's page, not ours, and fifty times as large: its frame stays empty here.
  await context.route(/\/(viewer|cases\/[^/]+\/viewer)(\?|\/|$)/, (route) =>
    route.fulfill({ contentType: "text/html", body: "<!doctype html><title>viewer</title><body style='background:#000'>" }));
  await context.addInitScript(() => {
    window.shifted = 0;
    new PerformanceObserver((list) => {
      for (const one of list.getEntries()) if (!one.hadRecentInput) window.shifted += one.value;
    }).observe({ type: "layout-shift", buffered: true });
  });
  const page = await context.newPage();
  page.on("console", (message) => {
    if (/Content Security Policy/.test(message.text())) refused.push(`${page.url()}: ${message.text().slice(0, 300)}`);
    else if (message.type() === "error" && !/status of 4/.test(message.text())) errors.push(`${page.url()}: ${message.text().slice(0, 300)}`);
  });
  page.on("pageerror", (error) => errors.push(`${page.url()}: ${String(error).slice(0, 300)}`));
  if (name) {
    await page.goto(`${plan.origin}/sign-in`);
    await page.fill("#name", name);
    await page.fill("#password", plan.users[name]);
    await page.press("#password", "Enter");
    await page.waitForURL((url) => url.pathname !== "/sign-in");
  }
  return page;
}

const look = async (page, rules) => page.evaluate(async ([rules, worst]) => {
  const found = await axe.run(document, { iframes: false, resultTypes: ["violations"], ...(rules ? { runOnly: rules } : {}) });
  return found.violations.filter((one) => worst.includes(one.impact)).map((one) =>
    `${one.id} (${one.impact}): ${one.help}; ${one.nodes.slice(0, 3).map((node) => `${node.target.join(" ")} – ${(node.any[0] ?? node.all[0] ?? node.none[0])?.message ?? ""}`).join(" | ")}`);
}, [rules, WORST]);

// Content that is wider than the window; and controls in the bar that have gone to a second line.
const overflow = () => {
  const root = document.documentElement, bar = document.querySelector(".bar");
  return { body: Math.max(0, root.scrollWidth - innerWidth), bar: bar ? Math.max(0, bar.scrollWidth - bar.clientWidth) : 0 };
};
// Targets that are smaller than 24 px both ways (WCAG 2.5.8), links in sentences excepted.
const small = () => [...document.querySelectorAll("button, summary, input:not([type=hidden]), select, a.btn, .chips a, nav a")]
  .filter((one) => one.checkVisibility({ visibilityProperty: true }) && !one.matches(".sr, .skip") && !one.closest("label, .menu:not([open]) .items"))
  .filter((one) => { const box = one.getBoundingClientRect(); return box.height > 0 && box.height < 23.5; })
  .map((one) => `${one.tagName} ${one.textContent.trim().slice(0, 30)} ${Math.round(one.getBoundingClientRect().height)} px`).slice(0, 5);

const theme = (page, name) => page.evaluate((name) => {
  document.documentElement.dataset.theme = name;
  document.dispatchEvent(new CustomEvent("overread:theme", { detail: name }));
}, name);

const seen = {}, pages = {};
for (const one of plan.pages) {
  pages[one.as] ??= await signedIn(one.as);
  const page = pages[one.as];
  await page.setViewportSize({ width: 1280, height: HEIGHT[1280] });
  const answer = await page.goto(plan.origin + one.path, { waitUntil: "load" });
  await page.waitForTimeout(one.wait ?? 150);  // what loads after it: a shift would come then
  const said = { status: answer.status(), at: new URL(page.url()).pathname, shift: await page.evaluate(() => window.shifted), faults: [] };
  await page.evaluate(axe);
  for (const [width, name, rules] of [[1280, "dark", null], [1280, "light", ["color-contrast"]], [3840, "light", null], [3840, "dark", ["color-contrast"]]]) {
    if (page.viewportSize().width !== width) await page.setViewportSize({ width, height: HEIGHT[width] });
    await theme(page, name);
    if (one.axe !== false) for (const fault of await look(page, rules)) said.faults.push(`${width} ${name}: ${fault}`);
    const over = await page.evaluate(overflow);
    if (over.body) said.faults.push(`${width} ${name}: the page is ${over.body} px wider than the window`);
    if (over.bar) said.faults.push(`${width} ${name}: the bar is ${over.bar} px wider than the window`);
    if (width === 1280 && name === "dark") for (const target of await page.evaluate(small)) said.faults.push(`small target: ${target}`);
    if (plan.shots) await page.screenshot({ path: `${plan.shots}/${one.name}-${width}-${name}.png` });
  }
  seen[one.name] = said;
}
console.log(JSON.stringify({ seen, elsewhere, refused, errors }));
await browser.close();
