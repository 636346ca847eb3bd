// A job's page and what its steps made: the bar opens its step; a volume is leafed through.
"use strict";

const open = () => {
  const step = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (step instanceof HTMLDetailsElement) {
    step.open = true;
    step.scrollIntoView();
  }
};
addEventListener("hashchange", open);
open();

for (const slices of document.querySelectorAll("[data-slices]")) {
  const picture = slices.querySelector("img"), range = slices.querySelector("input"), shown = slices.querySelector("output");
  const show = () => {
    shown.textContent = range.value;
    picture.src = `${slices.dataset.slices}${range.value}.png`;
    picture.alt = picture.alt.replace(/\d+/, range.value);
  };
  range.addEventListener("input", show);
  // The wheel over the picture goes through the slices, as in any viewer.
  picture.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (event.deltaY > 0) range.stepUp();
    else range.stepDown();
    show();
  }, { passive: false });
}
