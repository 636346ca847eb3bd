// The preview of a form: what its answers become is shown as they are given.
import { answerByKey, showAsked, showKeys } from "./form.js";
import { watchMarks } from "./mark.js";

const form = document.getElementById("preview");
const outcome = document.getElementById("outcome");
let timer = null;
let latest = 0;

async function ask() {
  const number = ++latest;
  const answer = await fetch(location.pathname, {
    method: "POST",
    body: new URLSearchParams(new FormData(form)),
    headers: { "X-CSRF-Token": form.dataset.csrf },
  }).catch(() => null);
  if (number !== latest) return;
  if (answer?.ok) outcome.innerHTML = await answer.text();
  else outcome.textContent = "The portal did not answer; load the page again.";
}

function refresh() {
  showAsked(form);
  showKeys(form);
}

if (form) {
  form.addEventListener("submit", (event) => event.preventDefault());
  const changed = () => {
    refresh();
    clearTimeout(timer);
    timer = setTimeout(ask, 250);
  };
  watchMarks(form, changed);
  form.addEventListener("input", changed);
  form.addEventListener("focusin", () => showKeys(form));
  document.addEventListener("keydown", (event) => answerByKey(form, event));
  refresh();
}
