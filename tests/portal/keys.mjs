// Works a running portal by keys alone. usage: node keys.mjs PLAN.json
// The plan: {origin, name, password, case, viewer: BOOL, shots?: FOLDER}. Prints one JSON line of what it saw.
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
const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
const seen = { errors: [] };
page.on("pageerror", (error) => seen.errors.push(String(error).slice(0, 300)));
const press = (key) => page.keyboard.press(key);
const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.textContent.trim());
const path = () => new URL(page.url()).pathname;
const ready = () => page.waitForLoadState("load");

await page.goto(`${plan.origin}/sign-in`);
await page.waitForFunction(() => document.activeElement.id === "name"); // the cursor is in the first field
await page.keyboard.type(plan.name);
await press("Tab");
await page.keyboard.type(plan.password);
await press("Enter");
await page.waitForURL((url) => url.pathname !== "/sign-in");
await ready();

await press("Tab");
seen.first = await focused(); // the way past the bar
await press("?");
seen.keys = await page.$$eval("#keys dt, #keys dd", (all) => all.map((one) => one.textContent));
if (plan.shots) await page.screenshot({ path: `${plan.shots}/keys.png` });
await press("j");
seen.inDialog = path(); // letters are no keys while a dialog is open
await press("Escape");
await page.waitForSelector("#keys", { state: "detached" });
await press("/");
seen.search = await focused();
await page.keyboard.type("jk");
seen.typed = await page.inputValue("#q");
await page.fill("#q", "");
await press("Escape");
await press("j");
seen.row1 = await focused();
await press("j");
seen.row2 = await focused();
await press("k");
seen.back = await focused();
await press("Enter");
await page.waitForURL((url) => url.pathname.startsWith("/cases/"));
seen.opened = path();

// Without single letters only the list of keys is left.
await page.goto(plan.origin + "/");
await ready();
await press("?");
await page.click("#keys input[type=checkbox]");
await press("Escape");
await page.waitForSelector("#keys", { state: "detached" });
await press("/");
seen.withoutLetters = await focused();
await page.evaluate(() => localStorage.clear());

// The theme is chosen in the menu, by keys, and is in the page that the server sends.
await page.focus("details.menu summary");
await press("Enter");
await page.focus("[data-theme-toggle]");
await press("Enter");
seen.theme = await page.evaluate(() => document.documentElement.dataset.theme);
seen.themeSent = /<html[^>]*data-theme="light"/.test(await (await page.request.get(plan.origin + "/")).text());
await press("Escape");
seen.menu = await page.evaluate(() => [document.querySelector("details.menu").open, document.activeElement.tagName]);

// Without network the page says so, until it is back; a module can say that something was not done.
const lost = () => page.locator("#lost").isVisible();
await page.context().setOffline(true);
await page.waitForSelector("#lost:not([hidden])");
seen.lost = [await lost()];
if (plan.shots) await page.screenshot({ path: `${plan.shots}/lost.png` });
await page.context().setOffline(false);
await page.waitForSelector("#lost", { state: "hidden" });
seen.lost.push(await lost());
const say = () => page.evaluate(async () => (await import("/static/page.js")).say("This was not done.", "bad"));
await say();
await say();
seen.said = await page.$$eval(".toast", (all) => all.map((one) => one.textContent));
if (plan.shots) await page.screenshot({ path: `${plan.shots}/toast.png` });
await page.click(".toast button");
seen.said.push(await page.locator(".toast").count());

if (plan.viewer) { // O shows and hides what lies over the images, from beside the viewer and from inside of it
  await page.goto(plan.origin + plan.case);
  const drawn = () => page.evaluate(() => {
    try {
      const { segmentationService, viewportGridService } = window.frames[0].services;
      return [...viewportGridService.getState().viewports.keys()].flatMap((id) =>
        segmentationService.getSegmentationRepresentations(id).map((one) => one.visible));
    } catch {
      return [];
    }
  });
  const until = async (holds) => {
    for (const end = Date.now() + 90000; Date.now() < end; await page.waitForTimeout(250)) if (holds(await drawn())) return true;
    return false;
  };
  const all = (is) => (found) => found.length > 0 && found.every((one) => one === is);
  seen.overlay = [await until(all(true))];
  await page.waitForTimeout(3000); // OHIF makes the viewport anew once, with the images under it
  await press("o");
  seen.overlay.push(await until(all(false)));
  await page.frames()[1].evaluate(() => document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "o", bubbles: true, cancelable: true })));
  seen.overlay.push(await until(all(true)));
}
console.log(JSON.stringify(seen));
await browser.close();
