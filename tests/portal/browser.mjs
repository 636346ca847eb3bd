// Drives Chromium through the portal. usage: node browser.mjs PLAN.json
// The plan: {origin, name, password, start, out, width?, shots: [{path, file, wait?, click?, press?}], overlay?: FILE, emptied?: FILE}
// Prints one JSON line: what was requested elsewhere, the viewer's segmentation state, page errors.
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
const context = await browser.newContext({ viewport: { width: plan.width ?? 1440, height: 900 } });
const page = await context.newPage();
const seen = { elsewhere: [], errors: [], refused: [], failed: [], overlay: null, landed: "" };
context.on("request", (request) => {
  const url = request.url();
  if (!url.startsWith(plan.origin) && !/^(data|blob|about):/.test(url)) seen.elsewhere.push(url);
});
context.on("response", (response) => {
  if (response.status() >= 400 && !response.url().endsWith("/favicon.ico"))
    seen.failed.push(`${response.status()} ${response.url()}`);
});
page.on("console", (message) => {
  if (/Content Security Policy/.test(message.text())) seen.refused.push(message.text().slice(0, 300));
  else if (message.type() === "error") seen.errors.push(message.text().slice(0, 300));
});
page.on("pageerror", (error) => seen.errors.push(String(error).slice(0, 300)));

await page.goto(plan.origin + plan.start);
if (plan.shotOfSignIn) await page.screenshot({ path: plan.shotOfSignIn });
await page.fill("#name", plan.name);
await page.fill("#password", plan.password);
await page.press("#password", "Enter");
await page.waitForURL((url) => url.pathname !== "/sign-in");
seen.landed = new URL(page.url()).pathname;

// What the viewer shows: its segmentations, and on which viewport each is drawn.
const state = () => {
  const services = window.services ?? window.frames[0]?.services;
  const service = services?.segmentationService;
  let grid = null;
  try {
    grid = services.viewportGridService.getState();
  } catch {
    return null; // not there yet
  }
  return {
    segmentations: service.getSegmentations().map((one) => ({
      label: one.label, segments: Object.values(one.segments).map((segment) => segment.label),
    })),
    drawn: [...grid.viewports.keys()].flatMap((id) =>
      service.getSegmentationRepresentations(id).map((one) => ({ viewport: id, type: one.type, visible: one.visible }))),
  };
};

if (plan.overlay) {
  const until = Date.now() + (plan.seconds ?? 90) * 1000;
  while (Date.now() < until) {
    seen.overlay = await page.evaluate(state);
    if (seen.overlay?.drawn.length) break;
    await page.waitForTimeout(500);
  }
  await page.waitForTimeout(plan.settle ?? 3000);
  await page.screenshot({ path: plan.overlay });
}
if (plan.emptied) { // what OHIF does by mistake now and then: the scene loses what the viewport shows
  await page.evaluate(() => {
    const services = window.services ?? window.frames[0].services;
    for (const id of services.viewportGridService.getState().viewports.keys())
      services.cornerstoneViewportService.getCornerstoneViewport(id).getRenderer().removeAllViewProps();
  });
  await page.waitForTimeout(1500);
  await page.screenshot({ path: plan.emptied });
}
for (const shot of plan.shots ?? []) {
  await page.goto(plan.origin + shot.path);
  await page.waitForTimeout(shot.wait ?? 500);
  if (shot.click) await page.click(shot.click);
  if (shot.press) await page.keyboard.press(shot.press);
  await page.screenshot({ path: shot.file, fullPage: shot.full ?? false });
}
console.log(JSON.stringify(seen));
await browser.close();
