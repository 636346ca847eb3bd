// Editing a segmentation: it is opened for the brush, kept in this browser while it is drawn, and saved as a
// version of the reader's own by one button. What is drawn outlives the sign-in: where that has ended, the
// page says so and keeps everything until somebody has signed in again.
import { drop, fetchDraft, keep } from "/static/viewer-draft.js";

const SETTLED = 1500; // what the viewer itself changes while it draws a segmentation is over by then
const PAUSE = 1000; // after a stroke, before it is kept

const services = () => window.services;
const commands = () => window.commandsManager;

const until = async (look, every = 200, tries = 600) => {
  for (let n = 0; n < tries; n++) {
    try {
      const found = await look();
      if (found) return found;
    } catch {
      // The viewer's services are not all there yet.
    }
    await new Promise((done) => setTimeout(done, every));
  }
  return null;
};

// The segmentation that is drawn over the images, and where.
function drawn() {
  const { viewportGridService, segmentationService } = services();
  const viewportId = viewportGridService.getActiveViewportId();
  const [one] = segmentationService.getSegmentationRepresentations(viewportId);
  return one && { viewportId, segmentation: segmentationService.getSegmentation(one.segmentationId) };
}

// Which object a segmentation was read from: study, series, instance.
const PLACE = /\/studies\/([0-9.]+)\/series\/([0-9.]+)\/instances\/([0-9.]+)/;

class Bar {
  constructor(place) {
    this.words = document.createElement("span");
    this.words.setAttribute("role", "status");
    this.words.style.cssText =
      "position:fixed;top:60px;left:50%;transform:translateX(-50%);z-index:30;padding:6px 14px;border-radius:6px;" +
      "background:#0b1a3fee;font-size:13px";
    this.words.hidden = true;
    this.buttons = document.createElement("span");
    this.buttons.style.cssText = "display:inline-flex;gap:8px";
    place.style.cssText = "display:inline-flex;gap:10px;align-items:center";
    place.replaceChildren(this.buttons, this.words);
  }

  say(words, tone = "#b9c6e6", ...more) {
    this.words.hidden = false;
    this.words.style.color = tone;
    this.words.replaceChildren(words, ...more);
  }

  action(words, does, isMain = false) {
    const made = document.createElement(typeof does === "string" ? "a" : "button");
    if (typeof does === "string") made.href = does;
    else {
      made.type = "button";
      made.addEventListener("click", does);
    }
    made.textContent = words;
    made.style.cssText =
      "font:inherit;font-size:13px;padding:5px 12px;border-radius:4px;cursor:pointer;text-decoration:none;" +
      (isMain ? "background:#5acce6;color:#04102b;border:1px solid #5acce6" : "background:none;color:#5acce6;border:1px solid #2f4a82");
    return made;
  }
}

const WARN = "#f0b95b";
const GOOD = "#7ad9a0";

export async function edit(caseId, isEditing) {
  const place = await until(() => document.getElementById("overread-bar"));
  if (!place) return;
  const bar = new Bar(place);
  const at = `/cases/${encodeURIComponent(caseId)}/viewer`;
  if (!isEditing) {
    const open = bar.action("Edit (E)", `${at}?mode=edit`);
    if (!(await until(drawn))) return;
    if (window.top === window) bar.buttons.append(open); // in a case's page the button stands in its bar
    document.addEventListener("keydown", (event) => {
      const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
      if (event.key.toLowerCase() === "e" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) open.click();
    });
    return;
  }
  bar.buttons.append(bar.action("Done", at));
  bar.say("Opening the segmentation…");
  const target = await openForEditing();
  if (!target) return bar.say("There is no segmentation here that can be edited.", WARN);
  new Editing(bar, caseId, target).begin();
}

// OHIF opens the images alone when it is to edit: put the segmentation over them and take the brush.
async function openForEditing() {
  const seg = await until(() => {
    const { displaySetService, viewportGridService, cornerstoneViewportService } = services();
    const id = viewportGridService.getActiveViewportId();
    const isUp = cornerstoneViewportService.getCornerstoneViewport(id)?.getCurrentImageId?.();
    const found = displaySetService.getActiveDisplaySets().filter((one) => one.Modality === "SEG");
    const asked = new URLSearchParams(location.search).get("initialSeriesInstanceUID");
    return isUp && (found.find((one) => one.SeriesInstanceUID === asked) ?? found[0]);
  });
  if (!seg) return null;
  const { viewportGridService } = services();
  const viewportId = viewportGridService.getActiveViewportId();
  viewportGridService.setDisplaySetsForViewports([
    { viewportId, displaySetInstanceUIDs: [seg.displaySetInstanceUID] },
  ]);
  const target = await until(drawn);
  if (!target) return null;
  await new Promise((done) => setTimeout(done, SETTLED));
  return drawn() ?? target;
}

class Editing {
  constructor(bar, caseId, target) {
    this.bar = bar;
    this.id = target.segmentation.segmentationId;
    this.viewportId = target.viewportId;
    this.place = PLACE.exec(target.segmentation.predecessorImageId ?? "");
    const names = Object.values(target.segmentation.segments).map(({ label }) => label);
    this.key = `${caseId}/${names.join("/")}`; // the same for every version of one result
    this.isChanged = false;
    this.isSaving = false;
  }

  async begin() {
    this.button = this.bar.action("Save version", () => this.save(), true);
    this.bar.buttons.prepend(this.button);
    this.bar.say("Draw with the brush, then save.");
    this.takeBrush();
    const { segmentationService } = services();
    segmentationService.subscribe(segmentationService.EVENTS.SEGMENTATION_DATA_MODIFIED, ({ segmentationId }) => {
      if (segmentationId === this.id) this.changed();
    });
    window.addEventListener("beforeunload", (event) => this.isChanged && event.preventDefault());
    window.addEventListener("overread:signed-out", (event) => {
      if (!this.isChanged) return;
      event.preventDefault();
      this.signedOut();
    });
    const draft = await fetchDraft(this.key);
    const fits = draft?.slices.length === this.slices().length;
    if (fits && draft.slices.every((slice, n) => slice.length === this.slices()[n].length)) this.offer(draft);
  }

  takeBrush() {
    try {
      const { toolGroupService } = services();
      const group = toolGroupService.getToolGroupForViewport(this.viewportId);
      commands().run("setToolActiveToolbar", { toolName: "CircularBrush", toolGroupIds: [group.id] });
    } catch {
      // The brush is one click away.
    }
  }

  changed() {
    this.isChanged = true;
    this.bar.say("Not saved yet.", WARN);
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => keep(this.key, this.slices()), PAUSE);
  }

  // The label map, slice by slice, as it is in memory.
  slices() {
    const { Labelmap } = services().segmentationService.getSegmentation(this.id).representationData;
    return Labelmap.imageIds.map((id) => window.cornerstone.cache.getImage(id).voxelManager.getScalarData());
  }

  offer(draft) {
    const time = new Date(draft.at).toLocaleString();
    const restore = this.bar.action("Restore", () => {
      draft.slices.forEach((slice, n) => this.slices()[n].set(slice));
      window.cornerstoneTools.segmentation.triggerSegmentationEvents.triggerSegmentationDataModified(this.id);
    });
    const discard = this.bar.action("Discard", () => {
      drop(this.key);
      this.bar.say("Draw with the brush, then save.");
    });
    this.bar.say(`Strokes of ${time} were not saved. `, WARN, restore, " ", discard);
  }

  async save() {
    if (this.isSaving) return;
    this.isSaving = true;
    this.button.disabled = true;
    this.bar.say("Saving…");
    const request = new XMLHttpRequest();
    try {
      const dataset = await this.dataset();
      const [source] = window.extensionManager.getActiveDataSource();
      await source.store.dicom(dataset, request);
      this.isChanged = false;
      clearTimeout(this.waiting);
      await drop(this.key);
      this.bar.say("Saved as your version. Its measurements appear on the case's page.", GOOD);
    } catch (error) {
      if (request.status === 401) this.signedOut();
      else this.bar.say(`Not saved: ${why(request, error)}`, WARN);
    } finally {
      this.isSaving = false;
      this.button.disabled = false;
    }
  }

  // The Segmentation as OHIF writes it, naming what it is a version of.
  async dataset() {
    if (!this.slices().some((slice) => slice.some(Boolean))) {
      throw new Error("nothing is drawn; a version has at least one voxel");
    }
    const made = await commands().runCommand("generateSegmentation", { segmentationId: this.id, options: {} }, "SEGMENTATION");
    const { dataset } = made;
    dataset.SeriesDescription = "Edited segmentation";
    dataset.ContentDescription = "edited by a reader";
    if (this.place) {
      const [, study, series, instance] = this.place;
      dataset.PredecessorDocumentsSequence = {
        StudyInstanceUID: study,
        ReferencedSeriesSequence: {
          SeriesInstanceUID: series,
          ReferencedSOPSequence: { ReferencedSOPClassUID: dataset.SOPClassUID, ReferencedSOPInstanceUID: instance },
        },
      };
    }
    return dataset;
  }

  signedOut() {
    this.isChanged = true;
    keep(this.key, this.slices());
    const link = this.bar.action("Sign in in another tab", "/sign-in?next=/account");
    link.target = "_blank";
    link.rel = "noopener";
    this.bar.say("You are signed out. What you have drawn is kept here: sign in, then save again. ", WARN, link);
  }
}

// What the service says is wrong.
function why(request, error) {
  try {
    const [failed] = JSON.parse(request.responseText)["00081198"].Value;
    return failed["00000902"].Value[0];
  } catch {
    return request.status ? `the server answered ${request.status}` : error.message || "the server cannot be reached";
  }
}
