// Pages that change by themselves. A page says what it listens to and which part of it is fetched
// anew: <main data-events="/events" data-live="#queue">. Without a stream it asks every few seconds.
//
// Rows that are there are changed in place. New ones are announced, and come in when the reader asks
// for them, so that nothing moves under the pointer.
"use strict";

const ASK_EVERY = 5000, AT_MOST_EVERY = 1000;

/**
 * Listen to a stream of events; ask by itself while there is none.
 * @param {string} address - of the stream
 * @param {Record<string, () => void>} on - what to do, by the event's name
 * @param {(isLost: boolean) => void} [tell] - told when the connection is lost, and when it is back
 * @returns {() => void} ends it
 */
export function listen(address, on, tell = () => {}) {
  let asking = 0, ended = false;
  const source = new EventSource(address);
  const everything = () => Object.values(on).forEach((act) => act());
  const lose = () => {
    if (ended || asking) return;
    tell(true);
    asking = setInterval(everything, ASK_EVERY);
  };
  source.addEventListener("hello", () => {
    if (!asking) return;
    clearInterval(asking);
    asking = 0;
    tell(false);
    everything();
  });
  source.addEventListener("error", lose);
  source.addEventListener("end", () => {  // the sign-in has ended, or may no longer see this
    source.close();
    everything();
    lose();
  });
  for (const [name, act] of Object.entries(on)) source.addEventListener(name, act);
  const end = () => {
    ended = true;
    clearInterval(asking);
    source.close();
  };
  addEventListener("pagehide", end, { once: true });
  return end;
}

/** Do something at most once in a while, the last time included. */
export function calmly(act, every = AT_MOST_EVERY) {
  let last = 0, waiting = 0;
  return () => {
    if (waiting) return;
    const pause = Math.max(0, last + every - Date.now());
    waiting = setTimeout(async () => {
      waiting = 0;
      last = Date.now();
      await act();
    }, pause);
  };
}

const page = document.querySelector("[data-events][data-live]");
if (page) live(page);

function live(page) {
  const part = page.dataset.live;
  let held = null;

  const say = (words, isLost = false) => {
    const place = page.querySelector("[data-live-state]");
    if (!place) return;
    place.textContent = words;
    place.classList.toggle("lost", isLost);
  };
  let lost = false;
  const telling = (isLost) => {
    lost = isLost;
    say(isLost ? "Connection lost; looking every 5 s" : "", isLost);
  };

  const rowsOf = (root) => [...root.querySelectorAll("table[data-keys] tbody tr[id]")];

  const swap = (fresh) => {
    const there = page.querySelector(part);
    const focus = document.activeElement?.closest?.("tr[id]")?.id;
    const typed = page.contains(document.activeElement) && document.activeElement.matches("select, input");
    if (typed) return false;  // somebody is choosing: later
    there.replaceWith(fresh);
    if (focus) document.getElementById(focus)?.querySelector("a.cover")?.focus({ preventScroll: true });
    held = null;
    if (lost) telling(true);
    return true;
  };

  const announce = (fresh, number) => {
    held = fresh;
    const place = page.querySelector("[data-live-state]");
    if (!place) return;
    const button = document.createElement("button");
    button.type = "button";
    button.id = "show-new";
    button.className = "btn ghost";
    button.textContent = number ? `${number} new case${number === 1 ? "" : "s"}` : "The list has changed";
    button.addEventListener("click", () => held && swap(held));
    place.replaceChildren(button);
    place.classList.remove("lost");
  };

  // What is known of a row is brought up to date where it stands; the counts above the list too.
  const inPlace = (fresh) => {
    for (const row of rowsOf(fresh)) {
      const there = document.getElementById(row.id);
      if (there && there.innerHTML !== row.innerHTML && !there.contains(document.activeElement)) {
        there.replaceChildren(...[...row.children].map((cell) => cell.cloneNode(true)));
        there.className = row.className;
      }
    }
    for (const name of [".head h1", ".tallies"]) {
      const there = page.querySelector(name), now = fresh.querySelector(name);
      if (there && now && there.innerHTML !== now.innerHTML && !there.contains(document.activeElement)) {
        there.innerHTML = now.cloneNode(true).innerHTML;
      }
    }
  };

  const ask = async () => {
    let answer;
    try {
      answer = await fetch(location.href, { headers: { "HX-Request": "true" }, redirect: "error" });
    } catch {
      return;  // the stream says that the connection is lost
    }
    if (answer.status === 401) {
      location.assign(`/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`);
      return;
    }
    if (!answer.ok) return;
    const read = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = read.querySelector(part);
    if (!fresh) return;
    const now = rowsOf(page).map((row) => row.id), then = rowsOf(fresh).map((row) => row.id);
    const added = then.filter((id) => !now.includes(id)).length;
    const isSame = now.length === then.length && now.every((id, at) => id === then[at]);
    const isAppended = !added || now.every((id, at) => then[at] === id);
    inPlace(fresh);
    if (isSame) {
      if (!page.querySelector(part).contains(document.activeElement)) swap(fresh);
    } else if (isAppended && added && !page.querySelector("tr:hover") && scrollY === 0) {
      if (!swap(fresh)) announce(fresh, added);  // below all that is there: nothing moves
    } else {
      announce(fresh, added);
    }
  };

  listen(page.dataset.events, { list: calmly(ask) }, telling);
}
