// OHIF's settings. One data source, this portal's; no study list; no question before an overlay.
"use strict";

// Always marked: an address can be made by hand, so nothing in it may take the mark away.
const INVESTIGATIONAL = "Investigational – not for clinical decisions";

window.config = {
  name: "overread",
  routerBasename: "/viewer",
  extensions: [],
  modes: [],
  modesConfiguration: {
    "@ohif/mode-longitudinal": {
      // The image gets the room; the series are one click away.
      routes: { 0: { layoutInstance: { props: { leftPanelClosed: { $set: true } } } } },
    },
  },
  customizationService: [
    {
      "ohif.tours": { $set: [] },
      // Only the case's own study; its history stands beside the viewer.
      "studyBrowser.studyMode": { $set: "primary" },
      "viewportOverlay.topRight": {
        $set: [
          {
            id: "Investigational",
            inheritsFrom: "ohif.overlayItem",
            label: "",
            title: INVESTIGATIONAL,
            color: "#f0b95b",
            contentF: () => INVESTIGATIONAL,
          },
        ],
      },
    },
  ],
  showStudyList: false,
  maxNumberOfWebWorkers: 3,
  showWarningMessageForCrossOrigin: false,
  showCPUFallbackMessage: false,
  showLoadingIndicator: true,
  // Embedded in a case page, that page says who it is.
  showPatientInfo: window.top === window ? "visible" : "disabled",
  strictZSpacingForVolumeViewport: true,
  groupEnabledModesFirst: true,
  showErrorDetails: "production",
  measurementTrackingMode: "simplified",
  // A segmentation opens at once, instead of asking whether to.
  disableConfirmationPrompts: true,
  investigationalUseDialog: { option: "never" },
  maxNumRequests: { interaction: 100, thumbnail: 5, prefetch: 25 },
  whiteLabeling: {
    createLogoComponentFn: (React) =>
      React.createElement(
        "span",
        { style: { color: "#f0b95b", fontSize: "13px", padding: "0 12px" } },
        "overread · investigational",
      ),
  },
  // The sign-in has ended: load again, which leads to the form and back.
  httpErrorHandler: (error) => {
    if (error?.status === 401) window.top.location.reload();
  },
  defaultDataSourceName: "overread",
  dataSources: [
    {
      namespace: "@ohif/extension-default.dataSourcesModule.dicomweb",
      sourceName: "overread",
      configuration: {
        friendlyName: "overread",
        name: "overread",
        wadoUriRoot: "/dicom-web",
        qidoRoot: "/dicom-web",
        wadoRoot: "/dicom-web",
        qidoSupportsIncludeField: false,
        imageRendering: "wadors",
        thumbnailRendering: "wadors",
        enableStudyLazyLoad: true,
        supportsFuzzyMatching: false,
        supportsWildcard: true,
        bulkDataURI: { enabled: true },
        omitQuotationForMultipartRequest: true,
      },
    },
  ],
};

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

  const show = ({ segmentationService }, { viewportId, segmentationId }) => {
    const { segments } = segmentationService.getSegmentation(segmentationId);
    const first = Number(Object.keys(segments)[0]);
    segmentationService.setStyle({ type: "Labelmap" }, { fillAlpha: 0.2 });
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
