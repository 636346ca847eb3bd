// A reader edits a segmentation in Chromium. usage: node editing.mjs PLAN.json
// The plan: {origin, password, case, other, shots: FOLDER}. Prints one JSON line with what was seen.
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
const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
context.setDefaultTimeout(60000);
const seen = { elsewhere: [], refused: [], posted: [] };
context.on("request", (request) => {
  const url = request.url();
  if (!url.startsWith(plan.origin) && !/^(data|blob|about):/.test(url)) seen.elsewhere.push(url);
  if (request.method() === "POST" && url.includes("/dicom-web/")) seen.posted.push(new URL(url).pathname);
});
const shot = (page, name) => page.screenshot({ path: `${plan.shots}/${name}.png` });

async function signIn(page) {
  await page.goto(`${plan.origin}/sign-in`);
  await page.fill("#name", "rosa");
  await page.fill("#password", plan.password);
  await page.press("#password", "Enter");
  await page.waitForURL((url) => url.pathname !== "/sign-in");
}

// Rows of the table and points of the plots, each with who they are of.
const numbers = (page) =>
  page.evaluate(() => ({
    rows: [...document.querySelectorAll("#measurements tbody tr")].map((row) => row.innerText.replace(/\s+/g, " ").trim()),
    points: [...document.querySelectorAll("[data-plot] script")]
      .flatMap((one) => JSON.parse(one.textContent).lines)
      .map((line) => [line.label, JSON.stringify(line).length]),
  }));

async function openEditor() {
  const page = await context.newPage();
  page.on("console", (message) => /Content Security Policy/.test(message.text()) && seen.refused.push(message.text()));
  page.on("dialog", (dialog) => dialog.accept());
  await page.goto(`${plan.origin}/cases/${plan.case}/viewer?mode=edit`);
  await page.getByRole("button", { name: "Save version" }).waitFor();
  return page;
}

const marked = (page) =>
  page.evaluate(() => {
    const [one] = window.services.segmentationService.getSegmentations();
    const { imageIds } = window.services.segmentationService.getSegmentation(one.segmentationId).representationData.Labelmap;
    return imageIds.reduce((sum, id) => sum + window.cornerstone.cache.getImage(id).getPixelData().reduce((n, v) => n + (v ? 1 : 0), 0), 0);
  });

async function paint(page, x, y) {
  const box = await page.locator(".cornerstone-canvas").first().boundingBox();
  await page.mouse.move(box.x + box.width * x, box.y + box.height * y);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * x + 40, box.y + box.height * y + 30, { steps: 6 });
  await page.mouse.up();
  await page.getByText("Not saved yet.").waitFor();
}

const status = (page, words) => page.getByRole("status").getByText(words).waitFor();
const save = (page) => page.getByRole("button", { name: "Save version" }).click();

const casePage = await context.newPage();
await signIn(casePage);
await casePage.goto(`${plan.origin}/cases/${plan.case}`);
seen.before = await numbers(casePage);
await shot(casePage, "case-before");

// The brush, and one button: the case's page has the new row and point without being loaded again.
const editor = await openEditor();
seen.voxels = [await marked(editor)];
await shot(editor, "editor-open");
await paint(editor, 0.35, 0.6);
seen.voxels.push(await marked(editor));
await shot(editor, "editor-painted");
await save(editor);
await status(editor, "Saved as your version");
await shot(editor, "editor-saved");
await casePage.waitForFunction((n) => document.querySelectorAll("#measurements tbody tr").length > n, seen.before.rows.length);
await casePage.waitForTimeout(500);
seen.after = await numbers(casePage);
await casePage.bringToFront();
await shot(casePage, "case-after");

// The sign-in ends while something is drawn: nothing is lost.
await editor.bringToFront();
await paint(editor, 0.6, 0.7);
seen.voxels.push(await marked(editor));
const cookies = await context.cookies();
await context.clearCookies();
await save(editor);
await status(editor, "You are signed out");
await shot(editor, "editor-signed-out");
seen.kept = await marked(editor);
const again = await context.newPage();
await signIn(again);
await save(editor);
await status(editor, "Saved as your version");
seen.signedInAnew = cookies.length > 0;

// The tab goes away before anything is saved: the next one has what was drawn.
await paint(editor, 0.5, 0.3);
seen.voxels.push(await marked(editor));
await editor.waitForTimeout(2500); // it is kept a second after the stroke
await editor.close({ runBeforeUnload: false });
const next = await openEditor();
await status(next, "were not saved");
seen.fresh = await marked(next);
await shot(next, "editor-restore");
await next.getByRole("button", { name: "Restore" }).click();
await next.getByText("Not saved yet.").waitFor();
seen.restored = await marked(next);
await save(next);
await status(next, "Saved as your version");

// Another case is opened: the viewer of this one covers itself, until its own is looked at again.
await casePage.goto(`${plan.origin}/cases/${plan.other}`);
await casePage.bringToFront();
await next.locator("#overread-cover").waitFor();
seen.cover = await next.locator("#overread-cover").innerText();
await shot(next, "viewer-covered");
await casePage.goto(`${plan.origin}/cases/${plan.case}`);
await next.locator("#overread-cover").waitFor({ state: "detached" });
await casePage.goto(`${plan.origin}/cases/${plan.other}`);
await next.getByRole("button", { name: "Show these images anyway" }).click();
seen.uncovered = (await next.locator("#overread-cover").count()) === 0;

// The viewer as it opens to read: the exam before stands beside, and what was drawn lies over the images.
await casePage.goto(`${plan.origin}/cases/${plan.case}`);
const viewer = await context.newPage();
await viewer.goto(`${plan.origin}/cases/${plan.case}/viewer`);
// On the finding's middle slice, and the exam before at the same one.
await viewer.waitForFunction(() => {
  const { viewportGridService, cornerstoneViewportService, segmentationService } = window.services ?? {};
  if (!segmentationService?.getSegmentations().length) return false;
  const ids = [...viewportGridService.getState().viewports.keys()];
  const slices = ids.map((id) => cornerstoneViewportService.getCornerstoneViewport(id)?.getCurrentImageIdIndex());
  return slices.length === 2 && slices[0] > 0 && slices[0] === slices[1];
});
await shot(viewer, "viewer-beside");
seen.beside = await viewer.evaluate(() => {
  const { viewportGridService, displaySetService, segmentationService } = window.services;
  return [...viewportGridService.getState().viewports.entries()].map(([id, one]) => ({
    shows: one.displaySetInstanceUIDs.map((uid) => displaySetService.getDisplaySetByUID(uid).StudyInstanceUID),
    drawn: segmentationService.getSegmentationRepresentations(id).length,
  }));
});
console.log(JSON.stringify(seen));
await browser.close();
