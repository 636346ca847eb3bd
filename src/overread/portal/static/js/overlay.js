// The key O, or the box: the segmentations over the images, shown or hidden, in every viewport of the
// viewer in this page. And keys that are pressed inside of the viewer, which has none of its own for
// them, mean what they mean beside it.
const FORWARDED = ["j", "k", "o", "?"];

const frame = document.querySelector(".viewer iframe");
const box = document.getElementById("overlay");

/** Show or hide all that lies over the images; the viewer's own switch, thrown only where it differs. */
export function showOverlay(services, isShown) {
  const { segmentationService, viewportGridService } = services;
  for (const viewportId of viewportGridService.getState().viewports.keys()) {
    for (const { segmentationId, type, visible } of segmentationService.getSegmentationRepresentations(viewportId)) {
      if (visible !== isShown) segmentationService.toggleSegmentationRepresentationVisibility(viewportId, { segmentationId, type });
    }
  }
}

const inside = () => {
  try {
    return frame?.contentWindow.services ?? null;
  } catch {
    return null; // it shows something that is not ours
  }
};

box?.addEventListener("change", () => {
  const services = inside();
  if (services) showOverlay(services, box.checked);
});

frame?.addEventListener("load", () => {
  if (box) box.checked = true; // so the viewer opens
  try {
    frame.contentWindow.addEventListener("keydown", (event) => {
      const key = event.key.toLowerCase(), submits = event.key === "Enter" && (event.ctrlKey || event.metaKey);
      const writes = event.target.closest?.("input, textarea, select, [contenteditable]");
      if (writes || event.altKey || !(submits || (FORWARDED.includes(key) && !event.ctrlKey && !event.metaKey))) return;
      event.preventDefault();
      document.body.dispatchEvent(new KeyboardEvent("keydown", { key: event.key, ctrlKey: event.ctrlKey, metaKey: event.metaKey, bubbles: true, cancelable: true }));
    });
  } catch {
    // It shows something that is not ours: no keys from there.
  }
});
