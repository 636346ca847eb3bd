// Reads cases in Chromium, by mouse and by keys. usage: node reading.mjs PLAN.json
// The plan: {origin, name, password, start, out, cookie?, acts: [[verb, ...]]}; see `acts` below.
// Prints one JSON line: what `look` and `text` saw, in order, page errors, refused by the policy.
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
const context = await browser.newContext({ viewport: { width: plan.width ?? 1280, height: plan.height ?? 900 } });
const page = await context.newPage();
const seen = { saw: [], errors: [], refused: [], elsewhere: [] };
context.on("request", (request) => {
  if (!request.url().startsWith(plan.origin) && !/^(data|blob|about):/.test(request.url())) seen.elsewhere.push(request.url());
});
page.on("console", (message) => {
  if (/Content Security Policy/.test(message.text())) seen.refused.push(message.text().slice(0, 300));
});
page.on("pageerror", (error) => seen.errors.push(String(error).slice(0, 300)));

async function signIn(name, password) {
  await page.fill("#name", name);
  await page.fill("#password", password);
  await page.press("#password", "Enter");
  await page.waitForURL((url) => url.pathname !== "/sign-in");
}

const acts = {
  goto: (path) => page.goto(plan.origin + path),
  signIn,
  click: (selector) => page.click(selector),
  press: (...keys) => keys.reduce((before, key) => before.then(() => page.keyboard.press(key)), Promise.resolve()),
  type: (words) => page.keyboard.type(words),
  fill: (selector, words) => page.fill(selector, words),
  focus: (selector) => page.focus(selector),
  reload: () => page.reload(),
  signOut: () => context.clearCookies(),
  shot: (file) => page.screenshot({ path: file }),
  at: (path) => page.waitForURL((url) => url.pathname === path, { timeout: 20000 }),
  until: (selector, words) => page.locator(selector, { hasText: words }).first().waitFor({ timeout: 20000 }),
  gone: (selector) => page.locator(selector).first().waitFor({ state: "detached", timeout: 20000 }),
  text: async (selector) => seen.saw.push(await page.innerText(selector)),
  value: async (selector) => seen.saw.push(await page.inputValue(selector)),
  look: async (script) => seen.saw.push(await page.evaluate(script)),
  // Waits until the viewer in its frame shows an image.
  inViewer: async () => {
    await page.waitForFunction(() => {
      const inside = document.querySelector(".viewer iframe")?.contentWindow;
      try {
        return inside.document.querySelector(".cornerstone-canvas")?.width > 100 && inside.commandsManager;
      } catch {
        return false;
      }
    }, null, { timeout: 60000 });
    await page.waitForTimeout(3000); // the first image is drawn; nothing says so from outside
  },
  drag: async (selector, from, to) => {
    const box = await page.locator(selector).first().boundingBox();
    const at = ([x, y]) => [box.x + x * box.width, box.y + y * box.height];
    await page.mouse.move(...at(from));
    await page.mouse.down();
    await page.mouse.move(...at(to), { steps: 4 });
    await page.mouse.up();
  },
};

await page.goto(plan.origin + plan.start);
await signIn(plan.name, plan.password);
for (const [number, [verb, ...rest]] of plan.acts.entries()) {
  try {
    await acts[verb](...rest);
  } catch (error) {
    await page.screenshot({ path: `${plan.out}/failed.png` });
    throw new Error(`act ${number}, ${verb} ${rest.join(" ")}: ${error}`);
  }
}
console.log(JSON.stringify(seen));
await browser.close();
