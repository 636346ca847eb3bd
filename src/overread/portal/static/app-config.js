// OHIF's settings. One data source, this portal's; no study list; no question before an overlay.
"use strict";

// Always marked: an address can be made by hand, so nothing in it may take the mark away.
const INVESTIGATIONAL = "Not for clinical use";

// The case that the viewer was opened from; the service at its address gives that case and no other.
const CASE = new URLSearchParams(window.location.search).get("case") ?? "";
const DICOMWEB = CASE ? `/cases/${encodeURIComponent(CASE)}/dicom-web` : "/dicom-web";

// How two studies hang: the case's own at the left, with what was drawn on it, the one before at the
// right. Of each the images that the address names.
const shown = (study) => ({
  studyMatchingRules: [
    {
      attribute: "studyInstanceUIDsIndex",
      from: "options",
      required: true,
      constraint: { equals: { value: study } },
    },
  ],
  seriesMatchingRules: [
    { attribute: "numImageFrames", constraint: { greaterThan: { value: 0 } } },
    { attribute: "isDisplaySetFromUrl", weight: 20, constraint: { equals: true } },
  ],
});
const pane = (id) => ({
  viewportOptions: { viewportType: "stack", toolGroupId: "default", allowUnmatchedView: true },
  displaySets: [{ id }],
});
const BESIDE = {
  id: "overread-beside",
  name: "Beside the exam before",
  numberOfPriorsReferenced: 1,
  protocolMatchingRules: [],
  toolGroupIds: ["default"],
  displaySetSelectors: { here: shown(0), before: shown(1) },
  defaultViewport: pane("here"),
  stages: [
    {
      name: "side by side",
      viewportStructure: { layoutType: "grid", properties: { rows: 1, columns: 2 } },
      viewports: [pane("here"), pane("before")],
    },
  ],
};

window.config = {
  name: "overread",
  routerBasename: "/viewer",
  extensions: [
    {
      id: "overread",
      getHangingProtocolModule: () => [{ name: BESIDE.id, protocol: BESIDE }],
    },
  ],
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
      // Only the studies that the address names; its history stands beside the viewer.
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
        { style: { display: "flex", alignItems: "center", gap: "10px", padding: "0 12px" } },
        React.createElement(
          "span",
          { style: { color: "#f0b95b", fontSize: "13px" } },
          "overread · investigational",
        ),
        React.createElement("span", { id: "overread-bar" }), // ours to fill: viewer-edit.js
      ),
  },
  // The sign-in has ended: load again, which leads to the form and back, unless something is drawn
  // or typed that is not saved.
  httpErrorHandler: (error) => {
    if (error?.status !== 401) return;
    const signedOut = () => new CustomEvent("overread:signed-out", { cancelable: true });
    const page = window.parent; // the case page around it, where it says so itself, or this window
    if (window.dispatchEvent(signedOut()) && (page === window || page.dispatchEvent(signedOut()))) page.location.reload();
  },
  defaultDataSourceName: "overread",
  dataSources: [
    {
      namespace: "@ohif/extension-default.dataSourcesModule.dicomweb",
      sourceName: "overread",
      configuration: {
        friendlyName: "overread",
        name: "overread",
        wadoUriRoot: DICOMWEB,
        qidoRoot: DICOMWEB,
        wadoRoot: DICOMWEB,
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

// What we do inside of the viewer: it is asked for once OHIF has its settings.
import("/static/viewer.js");
