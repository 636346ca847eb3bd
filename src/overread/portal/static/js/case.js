// The page of one case: its plots, the viewer once everything else is there, and what changes by itself.
import { calmly, listen } from "/static/live.js";
import { drawPlots } from "/static/plot.js";
import { announce } from "/static/viewer-cover.js";

const page = document.querySelector(".case");
announce(page.dataset.case); // so that a viewer of another case covers itself
drawPlots();
requestAnimationFrame(() => performance.mark("case-useful")); // numbers and plots are about to be painted

// htmx has put other numbers into the page.
document.body.addEventListener("htmx:load", (event) => drawPlots(event.target.parentElement ?? document));

// The viewer is fifty times the page: it begins to load when the page has been drawn.
function loadViewer() {
  for (const frame of document.querySelectorAll("iframe[data-src]")) {
    frame.src = frame.dataset.src;
    frame.removeAttribute("data-src");
  }
}
requestAnimationFrame(() => setTimeout(loadViewer));

// The form is below many numbers: while it is out of sight, a way to it stays in reach.
const way = document.querySelector(".to-reading"), form = document.getElementById("reading");
if (way && form) new IntersectionObserver(([seen]) => { way.hidden = seen.isIntersecting; }).observe(form);

// Other results, of a reader's edit or of an exam that came late: the numbers alone change, so that nothing
// that is typed is lost.
const numbers = () => htmx.ajax("GET", `/cases/${page.dataset.case}/measurements${location.search}`, { swap: "none" });
const state = () => document.getElementById("state") && htmx.trigger("#state", "state");
listen(`/cases/${page.dataset.case}/events`, { results: calmly(numbers), state: calmly(state, 200) });
