// A mark taken from the viewer in its frame: its own probe or rectangle tool, read when it is set.
const TOOLS = { point: "Probe", box: "RectangleROI" };
const PLACE = /\/instances\/([\d.]+)\/frames\/(\d+)/;

// Activates the tool; returns how to stop, or null where no viewer shows an image.
export function watchViewer(shape, done) {
  const inside = document.querySelector(".viewer iframe")?.contentWindow;
  const { cornerstone, cornerstoneTools, commandsManager } = inside ?? {};
  if (!commandsManager || !inside.document.querySelector(".cornerstone-canvas")) return null;
  const name = cornerstoneTools.Enums.Events.ANNOTATION_COMPLETED;
  const listen = ({ detail: { annotation } }) => {
    const image = annotation.metadata.referencedImageId;
    const [, uid, frame] = PLACE.exec(image ?? "") ?? [];
    if (annotation.metadata.toolName !== TOOLS[shape] || !uid) return;
    // The viewer counts from the middle of the first pixel, a mark from its corner.
    const places = annotation.data.handles.points.map((point) =>
      [...cornerstone.utilities.worldToImageCoords(image, point)].map((one) => Math.round((one + 0.5) * 100) / 100));
    const xs = places.map(([x]) => x);
    const ys = places.map(([, y]) => y);
    const mark = { sop_instance_uid: uid, frame: Number(frame) - 1, x: Math.min(...xs), y: Math.min(...ys) };
    done(shape === "box" ? { ...mark, x1: Math.max(...xs), y1: Math.max(...ys) } : mark);
  };
  cornerstone.eventTarget.addEventListener(name, listen);
  commandsManager.runCommand("setToolActive", { toolName: TOOLS[shape] });
  return () => {
    cornerstone.eventTarget.removeEventListener(name, listen);
    commandsManager.runCommand("setToolActive", { toolName: "WindowLevel" });
  };
}
