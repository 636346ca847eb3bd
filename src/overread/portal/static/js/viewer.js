// What we do inside of OHIF: mend its scene, open on the finding, cover a case that is no longer open, and
// save what is drawn.
import { watch } from "/static/viewer-cover.js";
import { edit } from "/static/viewer-edit.js";

const asked = new URLSearchParams(location.search);
const caseId = asked.get("case") ?? "";
const isEditing = location.pathname.startsWith("/viewer/segmentation");
if (caseId) watch(caseId);
if (caseId) edit(caseId, isEditing);

// While it puts the images under the segmentation, OHIF makes the viewport anew, and what the old one
// still waits for fails. Nothing is lost by that, so its alarm is not shown.
for (const kind of ["error", "unhandledrejection"]) {
  window.addEventListener(kind, (event) => {
    const message = String((event.reason ?? event.error)?.message ?? event.message);
    if (!message.includes("viewport has been destroyed and is no longer usable")) return;
    event.preventDefault();
    event.stopImmediatePropagation();
  });
}

// When OHIF 3.13 makes a viewport's image anew while another is on its way, the scene sometimes keeps
// the old one instead: the overlay then lies on a slice that is not its own, for good. What the
// viewport names as its actors is right, so the scene is made to hold just those.
const mend = () => {
  const { viewportGridService, cornerstoneViewportService } = window.services;
  for (const id of viewportGridService.getState().viewports.keys()) {
    const viewport = cornerstoneViewportService.getCornerstoneViewport(id);
    if (viewport?.type !== "stack" || viewport.isDisabled) continue;
    const renderer = viewport.getRenderer();
    const shown = renderer.getViewProps();
    const actors = viewport.getActors().map(({ actor }) => actor);
    if (shown.length === actors.length && actors.every((one) => shown.includes(one))) continue;
    renderer.removeAllViewProps();
    actors.forEach((one) => renderer.addActor(one)); // the image first, overlays over it
    viewport.render();
  }
};
setInterval(() => {
  try {
    mend();
  } catch {
    // The viewer's services are not all there yet, or a viewport has just gone.
  }
}, 250);

// Once the segmentation is drawn, let the image show through it, and go to the middle of its first
// region, so that the case opens on the finding and not on the first slice that it touches.
//
// The viewport first holds the segmentation itself and is then made anew with the images under it;
// touching one that goes away is an error. So this waits until it has stayed the same for a while.
(() => {
  const steady = 4;
  const pause = 200;
  const until = Date.now() + 120000;
  let before = null;
  let same = 0;

  const drawn = ({ segmentationService, viewportGridService }) =>
    [...viewportGridService.getState().viewports.keys()].flatMap((viewportId) =>
      segmentationService
        .getSegmentationRepresentations(viewportId)
        .map(({ segmentationId }) => ({ viewportId, segmentationId })),
    )[0];

  // The exam before opens as far into its stack as this one does, so that both show about the same place.
  const alongside = (viewportId) => {
    const { viewportGridService, cornerstoneViewportService } = window.services;
    const here = cornerstoneViewportService.getCornerstoneViewport(viewportId);
    const follow = ({ detail }) => {
      const share = detail.imageIdIndex / Math.max(1, here.getImageIds().length - 1);
      for (const id of viewportGridService.getState().viewports.keys()) {
        const other = cornerstoneViewportService.getCornerstoneViewport(id);
        if (id === viewportId || other?.type !== "stack" || other.isDisabled) continue;
        other.setImageIdIndex(Math.round(share * (other.getImageIds().length - 1)));
      }
    };
    here.element.addEventListener("CORNERSTONE_STACK_NEW_IMAGE", follow, { once: true });
  };

  const show = ({ segmentationService }, { viewportId, segmentationId }) => {
    const { segments } = segmentationService.getSegmentation(segmentationId);
    const first = Number(Object.keys(segments)[0]);
    segmentationService.setStyle({ type: "Labelmap" }, { fillAlpha: 0.2 });
    alongside(viewportId);
    segmentationService.jumpToSegmentCenter(segmentationId, first, viewportId, undefined, false);
  };

  const look = () => {
    try {
      const services = window.services;
      const target = drawn(services);
      const viewport =
        target && services.cornerstoneViewportService.getCornerstoneViewport(target.viewportId);
      same = viewport && viewport === before && !viewport.isDisabled ? same + 1 : 0;
      before = viewport;
      if (same >= steady) return show(services, target);
    } catch {
      same = 0; // The viewer's services are not all there yet.
    }
    if (Date.now() < until) setTimeout(look, pause);
  };
  look();
})();
