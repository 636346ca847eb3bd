// Opens pages that frame the portal. usage: node embedding.mjs PLAN.json
// The plan: {pages: {NAME: URL}, name, password}. Signs in inside the frame where it shows.
// Prints one JSON line: for each page where its frame ended, what it says, and the page's refusals.
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const plan = JSON.parse(readFileSync(process.argv[2], "utf8"));
const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-quic", "--no-first-run",
  ],
});
const seen = {};
for (const [name, url] of Object.entries(plan.pages)) {
  const page = await browser.newPage();
  const refused = [];
  page.on("console", (message) => {
    if (/frame-ancestors/.test(message.text())) refused.push(message.text().slice(0, 200));
  });
  await page.goto(url, { waitUntil: "load" });
  const frame = () => page.frames().find((one) => one !== page.mainFrame());
  if (!frame().url().startsWith("chrome-error:")) {
    await frame().fill("#name", plan.name);
    await frame().fill("#password", plan.password);
    await frame().press("#password", "Enter");
    await frame().waitForSelector("h1");
    await frame().waitForURL((at) => at.pathname !== "/sign-in");
  }
  const says = frame().url().startsWith("chrome-error:") ? "" : await frame().innerText("h1");
  seen[name] = { url: frame().url(), says, refused };
  await page.close();
}
console.log(JSON.stringify(seen));
await browser.close();
