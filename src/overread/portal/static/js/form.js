// The form of a reading: saved as one types, kept in this tab when it cannot be, answered by keys.
import { watchMarks } from "./mark.js";

const SAVE_AFTER = 700;
const RETRY_AFTER = 5000;
const KEPT = "What you typed is kept in this tab, for you alone. ";

function link(href, words) {
  const made = document.createElement("a");
  [made.href, made.textContent] = [href, words];
  return made;
}

// What was typed stays in the tab for its own user only: whoever signs in next finds nothing.
function forgetOthers(user) {
  for (const key of Object.keys(sessionStorage))
    if (key.startsWith("reading:") && !key.startsWith(`reading:${user}:`)) sessionStorage.removeItem(key);
}

const entriesOf = (form) => [...new FormData(form)].filter(([name]) => name.startsWith("/"));

function fill(form, entries) {
  const given = new Map();
  for (const [name, value] of entries) given.set(name, [...(given.get(name) ?? []), value]);
  for (const input of form.elements) {
    if (!input.name?.startsWith("/")) continue;
    const values = given.get(input.name) ?? [];
    if (input.type === "radio" || input.type === "checkbox") input.checked = values.includes(input.value);
    else input.value = values[0] ?? "";
  }
}

// Shows the questions that are asked, after the answers to those before them.
export function showAsked(form) {
  for (const question of form.querySelectorAll("[data-show-if]")) {
    const wanted = Object.entries(JSON.parse(question.dataset.showIf));
    question.hidden = !wanted.every(([name, texts]) =>
      [...form.elements].some(
        (input) => input.name === name && input.checked && texts.includes(input.value) && !input.closest("[hidden]"),
      ));
  }
}

// The questions with answers to choose from, a grid's cells each by itself, that are asked.
const choices = (form) =>
  [...form.querySelectorAll(".options")].map((one) => one.closest(".cell, .ask")).filter((one) => !one.closest("[hidden]"));
const isAnswered = (question) => question.querySelector(".options input:checked") !== null;

// The question that a number key answers: the one in focus, else the first that is not answered.
function current(form) {
  const focused = document.activeElement?.closest?.(".cell, .ask");
  if (focused && form.contains(focused)) return focused.querySelector(".options") ? focused : null;
  return choices(form).find((one) => !isAnswered(one)) ?? null;
}

export function showKeys(form) {
  const now = current(form);
  for (const one of choices(form)) one.classList.toggle("current", one === now);
}

export function answerByKey(form, event) {
  const typing = event.target.closest("textarea, select, [contenteditable], input:not([type=radio], [type=checkbox])");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !/^[1-9]$/.test(event.key)) return;
  const option = current(form)?.querySelectorAll(".options input")[Number(event.key) - 1];
  if (!option) return;
  event.preventDefault();
  option.click();
}

class Reading {
  constructor(section) {
    this.section = section;
    this.form = section.querySelector("form.form");
    this.url = section.dataset.url;
    this.key = `reading:${section.dataset.user}:${section.dataset.reading}`;
    this.timer = this.running = null;
    this.isDirty = false;
    this.drawMarks = watchMarks(this.form, () => this.changed());
    this.restore();
    this.refresh();
    this.form.addEventListener("input", () => this.changed());
    this.form.addEventListener("focusin", () => showKeys(this.form));
    this.form.addEventListener("focusout", () => setTimeout(() => showKeys(this.form)));
    this.form.addEventListener("submit", (event) => this.submit(event));
    this.watchConflict();
  }

  get revision() {
    return this.form.elements.revision;
  }

  refresh() {
    showAsked(this.form);
    showKeys(this.form);
    this.drawMarks();
  }

  changed() {
    this.isDirty = true;
    this.keep();
    this.refresh();
    this.say("…");
    this.later(SAVE_AFTER);
  }

  later(wait) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.save(), wait);
  }

  // In this tab, until the server has it.
  keep() {
    const kept = { revision: this.revision.value, entries: entriesOf(this.form) };
    try {
      sessionStorage.setItem(this.key, JSON.stringify(kept));
    } catch {
      this.say("not saved yet"); // the tab has no room; the next save may do
    }
  }

  restore() {
    const kept = JSON.parse(sessionStorage.getItem(this.key) ?? "null");
    if (!kept) return;
    if (JSON.stringify(kept.entries) === JSON.stringify(entriesOf(this.form))) {
      sessionStorage.removeItem(this.key);
      return;
    }
    fill(this.form, kept.entries);
    this.revision.value = kept.revision; // another one by now: the server says so, and both are shown
    this.isDirty = true;
    this.later(0);
  }

  async save() {
    clearTimeout(this.timer);
    if (this.running) {
      await this.running;
    }
    if (!this.isDirty || this.section.querySelector("#conflict")) return;
    this.isDirty = false;
    this.running = this.send("PUT", `${this.url}/draft`).then(async (answer) => {
      if (answer?.ok) {
        const { revision, saved_at: at } = await answer.json();
        this.revision.value = revision;
        if (this.isDirty) this.keep();
        else sessionStorage.removeItem(this.key);
        this.say(`saved ${new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false })}`);
        this.tell("");
      } else {
        this.isDirty = true;
        await this.refused(answer);
      }
    });
    await this.running;
    this.running = null;
  }

  send(method, url) {
    return fetch(url, {
      method,
      body: new URLSearchParams(new FormData(this.form)),
      headers: { "X-CSRF-Token": this.section.dataset.csrf, Accept: "application/json, text/html;q=0.9" },
    }).catch(() => null);
  }

  signedOut() {
    const back = encodeURIComponent(location.pathname + location.search);
    this.tell(`Your sign-in has ended. ${KEPT}`, link(`/sign-in?next=${back}`, "Sign in and go on"));
  }

  // The answer was no: what was typed is in this tab, and stays there.
  async refused(answer) {
    const status = answer?.status ?? 0;
    this.keep();
    this.say("kept in this tab");
    if (status === 401) {
      this.signedOut();
    } else if (status === 403) {
      this.tell(`This page belongs to an earlier sign-in. ${KEPT}`, link(location.href, "Load the page again"));
    } else if (status === 409 || status === 422) {
      this.replace(await answer.text());
    } else if (status === 413) {
      this.tell(`This is too much to be kept: ${await answer.text()}. Shorten it; until then it stands in this tab only.`);
    } else if (status === 404) {
      this.tell("This case is no longer yours to read. What you typed is still in this tab.");
    } else {
      this.tell("The portal cannot be reached. What you typed is kept in this tab, and is saved as soon as it can be.");
      this.later(RETRY_AFTER);
    }
  }

  // Takes in what the server has made of the reading. What stands here by now wins over what was sent.
  replace(html) {
    const entries = entriesOf(this.form);
    const made = new DOMParser().parseFromString(html, "text/html").getElementById("reading");
    if (!made) return;
    const { section } = this; // stays, since others watch it; what is in it is new
    section.replaceChildren(...made.childNodes);
    section.dataset.state = made.dataset.state;
    const stale = section.querySelector("#conflict");
    const form = section.querySelector("form.form[novalidate]");
    if (form) {
      fill(form, entries);
      if (!stale) sessionStorage.removeItem(this.key);
    } else {
      sessionStorage.removeItem(this.key); // it is submitted, and shown
    }
    start();
    section.querySelector("#conflict, #problems, #reading-notice")?.focus();
  }

  watchConflict() {
    this.section.querySelector("[data-act=keep-here]")?.addEventListener("click", () => {
      const conflict = this.section.querySelector("#conflict");
      this.revision.value = conflict.dataset.revision;
      conflict.remove();
      this.changed();
      this.save();
    });
    this.section.querySelector("[data-act=take-saved]")?.addEventListener("click", () => {
      clearTimeout(this.timer);
      sessionStorage.removeItem(this.key);
    });
  }

  async submit(event) {
    event.preventDefault();
    const button = event.submitter ?? this.form.querySelector("[type=submit]");
    if (button.ariaBusy === "true") return;
    button.ariaBusy = "true";
    clearTimeout(this.timer);
    if (this.running) await this.running;
    const answer = await this.send("POST", button.dataset.act === "discard" ? button.formAction : this.url);
    button.ariaBusy = "false";
    const to = answer?.headers.get("HX-Redirect");
    if (answer?.ok && to) {
      this.isDirty = false;
      sessionStorage.removeItem(this.key);
      location.assign(to);
    } else {
      await this.refused(answer);
    }
  }

  say(words) {
    this.section.querySelector(".saved").textContent = words;
  }

  tell(words, link = "") {
    const place = this.section.querySelector(".offline");
    place.hidden = !words;
    place.replaceChildren(words, link);
  }
}

let reading = null;

function start() {
  const section = document.getElementById("reading");
  if (section) forgetOthers(section.dataset.user);
  reading = section?.querySelector("form.form[novalidate]") ? new Reading(section) : null;
}

document.addEventListener("keydown", (event) => {
  if (reading) answerByKey(reading.form, event);
});
addEventListener("overread:signed-out", (event) => {
  if (!reading) return;
  event.preventDefault(); // the viewer would load the page again, under the reader's hands
  reading.signedOut();
});
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "hidden") reading?.save();
});
document.addEventListener("click", (event) => {
  const id = event.target.closest(".problems a")?.hash.slice(1);
  const question = id && document.getElementById(id);
  if (!question) return;
  event.preventDefault();
  question.scrollIntoView({ block: "center" });
  (question.querySelector("input:not([type=hidden]), textarea, button") ?? question).focus();
});
start();
