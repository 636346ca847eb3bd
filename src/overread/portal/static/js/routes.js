// Routes, tried on files that are dropped: only the beginning of each one is sent.
"use strict";

const MOST = 20;
const form = document.getElementById("drop"), tried = document.getElementById("tried"), files = document.getElementById("files");

async function tryOne(file) {
  const said = new URLSearchParams();
  for (const name of ["calling", "called", "peer"]) {
    const value = form.elements[name]?.value.trim();
    if (value) said.set(name, value);
  }
  const answer = await fetch(`/routes/test?${said}`, {
    method: "POST",
    headers: { "Content-Type": "application/dicom", "X-CSRF-Token": form.dataset.csrf },
    body: file.slice(0, Number(form.dataset.largest)),
  });
  const part = document.createElement("article");
  const name = document.createElement("h3");
  name.textContent = file.name;
  part.append(name);
  if (answer.headers.get("content-type")?.startsWith("text/html")) {
    const inside = document.createElement("div");
    inside.innerHTML = await answer.text();  // our own template, in which everything is escaped
    part.append(inside);
  } else {
    const words = document.createElement("p");
    words.className = "say bad";
    words.textContent = answer.status === 401 ? "The sign-in has ended. Load the page again." : `Not tried (${answer.status}).`;
    part.append(words);
  }
  tried.append(part);
}

async function tryAll(list) {
  tried.replaceChildren();
  for (const file of [...list].slice(0, MOST)) await tryOne(file);
  if (list.length > MOST) tried.append(`${list.length - MOST} more were not tried.`);
}

files?.addEventListener("change", () => tryAll(files.files));
form?.addEventListener("submit", (event) => event.preventDefault());
for (const name of ["dragenter", "dragover"]) form?.addEventListener(name, (event) => { event.preventDefault(); form.classList.add("over"); });
for (const name of ["dragleave", "drop"]) form?.addEventListener(name, () => form.classList.remove("over"));
form?.addEventListener("drop", (event) => {
  event.preventDefault();
  tryAll(event.dataTransfer.files);
});
