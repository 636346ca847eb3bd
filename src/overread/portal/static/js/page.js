// What every page has: keys, the account menu, the theme, dialogs, words at the edge, the lost connection.
//
// Keys are declared where they act: <a data-key="j" data-key-words="Next case">. This module alone
// dispatches them: it clicks a button or link, ticks a box, and puts the cursor into a field. Letters
// are not keys while somebody types; Control+Enter always is. A key that another module handles by
// itself is only declared for the list: data-key-note="1 … 9".
"use strict";

const WRITES = "input:not([type=checkbox], [type=radio], [type=range], [type=button], [type=submit]), textarea, select, [contenteditable]";
const SHOWN = { "Control+Enter": "Ctrl ⏎", Enter: "⏎" };
const LETTERS = "overread-keys";  // kept in this browser: "off" where single letters are no keys

const isThere = (one) => !one.closest("[hidden], dialog:not([open])") && !one.disabled;
const named = (key) => [...document.querySelectorAll(`[data-key="${CSS.escape(key)}"]`)].find(isThere);
const lettersOff = () => localStorage.getItem(LETTERS) === "off";

function nameOf(event) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  return event.ctrlKey || event.metaKey ? `Control+${key}` : key;
}

function act(one) {
  if (one.matches(WRITES)) {
    one.focus();
    one.select?.();
  } else one.click();
}

// A list, <table data-keys>: J and K move along the links of its rows, Enter opens the first one.
function moveInList(key) {
  const links = [...document.querySelectorAll("table[data-keys] a.cover")];
  if (!links.length) return false;
  const at = links.indexOf(document.activeElement);
  if (key === "Enter") links[0].click();
  else {
    const to = links[key === "j" ? Math.min(at + 1, links.length - 1) : Math.max(at - 1, 0)];
    to.focus();
    to.scrollIntoView({ block: "nearest" });
  }
  return true;
}

document.addEventListener("keydown", (event) => {
  const writes = event.target.closest?.(WRITES), key = nameOf(event);
  if (event.altKey || event.defaultPrevented || event.isComposing) return;
  if (key === "Escape") {
    const menu = document.querySelector("details.menu[open]");
    if (menu) {
      menu.open = false;
      menu.querySelector("summary").focus();
    } else writes?.blur();
    return;
  }
  if (key !== "Control+Enter") {
    if (writes || key.startsWith("Control+") || document.querySelector("dialog[open]")) return;
    if (key === "Enter" && event.target.closest?.("a, button, summary, input")) return;
    if (key.length === 1 && key !== "?" && lettersOff()) return;
  }
  const one = named(key);
  if (one) act(one);
  else if (!["j", "k", "Enter"].includes(key) || !moveInList(key)) return;
  event.preventDefault();
});

// The list of keys: what the page declares, nothing else.
function keyList() {
  const known = new Map();
  for (const one of document.querySelectorAll("[data-key][data-key-words], [data-key-note]")) {
    if (isThere(one)) known.set(one.dataset.key ?? one.dataset.keyNote, one.dataset.keyWords);
  }
  if (document.querySelector("table[data-keys] a.cover")) {
    for (const [key, words] of [["j", "Next row"], ["k", "Previous row"], ["Enter", "Open the row"]]) {
      if (!known.has(key)) known.set(key, words);
    }
  }
  return known;
}

function showKeys() {
  const dialog = document.createElement("dialog");
  dialog.id = "keys";
  dialog.setAttribute("aria-labelledby", "keys-title");
  dialog.innerHTML = `<header><h2 id="keys-title">Keys</h2><form method="dialog"><button class="btn ghost">Close</button></form></header>
<dl class="keys"></dl><p><label class="toggle"><input type="checkbox"> Single letters are keys</label></p>`;
  for (const [key, words] of keyList()) {
    const dt = document.createElement("dt"), dd = document.createElement("dd"), kbd = document.createElement("kbd");
    kbd.className = "key";
    kbd.textContent = SHOWN[key] ?? (key.length === 1 ? key.toUpperCase() : key);
    dt.append(kbd);
    dd.textContent = words;
    dialog.querySelector("dl").append(dt, dd);
  }
  const letters = dialog.querySelector("input");
  letters.checked = !lettersOff();
  letters.addEventListener("change", () => localStorage.setItem(LETTERS, letters.checked ? "on" : "off"));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

// The theme is a cookie, so that the server writes it into <html> and nothing flashes.
function turnTheme(button) {
  const root = document.documentElement, now = root.dataset.theme === "light" ? "dark" : "light";
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `overread-theme=${now}; Path=/; Max-Age=31536000; SameSite=Lax${secure}`;
  root.dataset.theme = now;
  document.querySelector("meta[name=color-scheme]").content = now;
  button.textContent = `${now === "light" ? "Dark" : "Light"} theme`;
  document.dispatchEvent(new CustomEvent("overread:theme", { detail: now }));  // plots draw anew
}

document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
  const theme = event.target.closest("[data-theme-toggle]");
  if (theme) turnTheme(theme);
  if (event.target.closest("[data-show-keys]")) showKeys();
  const opens = event.target.closest("[data-opens]");
  if (opens) document.getElementById(opens.dataset.opens).showModal();
});

/**
 * Say something at the edge of the page, for a while; what went wrong stays until it is closed.
 * @param {string} words
 * @param {"" | "ok" | "warn" | "bad"} [tone]
 */
export function say(words, tone = "") {
  const place = document.getElementById("toasts");
  if ([...place.children].some((one) => one.firstChild.textContent === words)) return; // it is said already
  const toast = document.createElement("p"), close = document.createElement("button");
  toast.className = `toast ${tone}`;
  toast.textContent = words;
  close.className = "link";
  close.textContent = "Close";
  close.addEventListener("click", () => toast.remove());
  toast.append(close);
  place.append(toast);
  if (tone !== "bad" && tone !== "warn") setTimeout(() => toast.remove(), 6000);
}

/**
 * Tell that the connection is lost, or that it is back.
 * @param {string} words - what that means here; empty when it is back
 */
export function lost(words) {
  const place = document.getElementById("lost");
  place.textContent = words;
  place.hidden = !words;
}

addEventListener("offline", () => lost("No network. What is shown may be old."));
addEventListener("online", () => lost(""));
document.addEventListener("htmx:sendError", () => lost("Overread does not answer. What is shown may be old."));
document.addEventListener("htmx:afterOnLoad", (event) => event.detail.successful && lost(""));
document.addEventListener("htmx:responseError", ({ detail: { xhr, requestConfig } }) => {
  if (requestConfig.verb === "get") lost(`Overread answers with an error (${xhr.status}). What is shown may be old.`);
  else say(`This was not done: Overread answered ${xhr.status}. Load the page again and try once more.`, "bad");
});

// The viewer is black while it loads. Its frame is of this origin, so whether it has a viewport can be
// seen; should it never have one, its own words are better than ours.
(() => {
  const frame = document.querySelector(".viewer iframe");
  const words = document.querySelector(".viewer .loading");
  if (!frame || !words) return;
  const until = Date.now() + 45000;
  const look = () => {
    let isUp = Date.now() > until;
    try {
      const inside = frame.contentDocument;
      const isOther = inside.readyState === "complete" && inside.URL !== "about:blank" && !inside.getElementById("root");
      isUp ||= isOther || inside.querySelector(".cornerstone-canvas") !== null;
    } catch {
      isUp = true; // It shows something that is not ours.
    }
    if (isUp) words.remove();
    else setTimeout(look, 200);
  };
  look();
})();
