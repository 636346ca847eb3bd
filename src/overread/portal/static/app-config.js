// OHIF's settings. One data source, this portal's; no study list; no question before an overlay.
"use strict";

// The stage of the case's pipeline; the link to the viewer names it.
const isClinical = () => new URLSearchParams(window.location.search).get("stage") === "clinical";
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
            condition: () => !isClinical(),
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
        { style: { color: isClinical() ? "#9aa6cb" : "#f0b95b", fontSize: "13px", padding: "0 12px" } },
        isClinical() ? "overread" : "overread · investigational",
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

// Once the segmentation is drawn, let the image show through it, and go to the middle of its first
// region, so that the case opens on the finding and not on the first slice that it touches.
(() => {
  const until = Date.now() + 120000;
  // The viewport first holds the segmentation itself, and is made anew with the images under it.
  const drawn = ({ segmentationService, viewportGridService, displaySetService }) =>
    [...viewportGridService.getState().viewports.values()]
      .filter(({ displaySetInstanceUIDs: [first] }) =>
        displaySetService.getDisplaySetByUID(first).Modality !== "SEG")
      .flatMap(({ viewportId }) =>
        segmentationService
          .getSegmentationRepresentations(viewportId)
          .map(({ segmentationId }) => ({ viewportId, segmentationId })));
  const look = () => {
    try {
      const services = window.services;
      for (const { viewportId, segmentationId } of drawn(services)) {
        const { segments } = services.segmentationService.getSegmentation(segmentationId);
        const first = Number(Object.keys(segments)[0]);
        services.segmentationService.setStyle({ type: "Labelmap" }, { fillAlpha: 0.2 });
        services.segmentationService.jumpToSegmentCenter(
          segmentationId, first, viewportId, undefined, false);
        return;
      }
    } catch {
      // The viewer's services are not all there yet.
    }
    if (Date.now() < until) setTimeout(look, 200);
  };
  setTimeout(look, 200);
})();
