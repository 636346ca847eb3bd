// Opens a series in OHIF and times it. usage: node viewer.mjs PLAN.json
// The plan: {viewer, token, slices, rounds, roots: {NAME: DICOMWEB ROOT}}. Prints one JSON line: runs.
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const plan = JSON.parse(readFileSync(process.argv[2], "utf8"));
const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: [
    "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-quic", "--no-first-run", "--disable-web-security",
  ],
});
const runs = [];
for (let round = 0; round <= plan.rounds; round++) {
  for (const [name, root] of Object.entries(plan.roots)) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, extraHTTPHeaders: { authorization: `Bearer ${plan.token}` } });
    const page = await context.newPage();
    await page.addInitScript(() => {
      performance.setResourceTimingBufferSize(10000);
      const look = () => {
        try {
          const { viewportGridService, cornerstoneViewportService } = window.services;
          const viewport = cornerstoneViewportService.getCornerstoneViewport(viewportGridService.getActiveViewportId());
          if (viewport.getCornerstoneImage()) return (window.firstImage = performance.now());
        } catch {
          // not there yet
        }
        setTimeout(look, 10);
      };
      look();
    });
    await page.goto(`${plan.viewer}/viewer/viewer?StudyInstanceUIDs=${plan.study}&root=${encodeURIComponent(root)}`);
    await page.waitForFunction(() => window.firstImage, null, { timeout: 120000 });
    const told = await page.waitForFunction((slices) => {
      const frames = performance.getEntriesByType("resource").filter((one) => one.name.includes("/frames/") && one.responseEnd);
      if (new Set(frames.map((one) => one.name)).size < slices) return null;
      const asked = performance.getEntriesByType("resource").filter((one) => one.name.includes("/studies"));
      return {
        first: window.firstImage - asked[0].startTime,
        whole: Math.max(...frames.map((one) => one.responseEnd)) - asked[0].startTime,
        waited: frames.reduce((sum, one) => sum + one.responseEnd - one.requestStart, 0) / frames.length,
      };
    }, plan.slices, { timeout: 180000 });
    if (round > 0) runs.push({ name, ...(await told.jsonValue()) }); // the first of each warms everything up
    await context.close();
  }
}
console.log(JSON.stringify(runs));
await browser.close();
