// The keys that are shown on the pages, and the words over the viewer until it shows an image.
"use strict";
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) {
    if (event.key === "Escape" && typing) typing.blur();
    return;
  }
  if (event.key === "/") {
    const search = document.getElementById("q");
    if (search) {
      event.preventDefault();
      search.focus();
      search.select();
    }
  } else if (event.key.toLowerCase() === "v") {
    document.getElementById("own-tab")?.click();
  } else if (event.key.toLowerCase() === "b") {
    document.getElementById("boxes")?.click();
  }
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
