// Marks on images: a point or a box, taken from a picture on the page or from the viewer in its frame.
// A mark is {sop_instance_uid, frame, x, y[, x1, y1]}: the frame from 0, the place in image pixels.
import { watchViewer } from "./mark-viewer.js";

const SVG = "http://www.w3.org/2000/svg";
const round = (number) => Math.round(number * 100) / 100;

// Lets every marker of a form be set; `changed` is told after each change.
export function watchMarks(form, changed) {
  const markers = [...form.querySelectorAll(".marker")].map((element) => new Marker(element, changed));
  for (const marker of markers) marker.others = markers.filter((one) => one !== marker);
  return () => markers.forEach((marker) => marker.show());
}

class Marker {
  constructor(element, changed) {
    this.input = element.querySelector("input");
    this.button = element.querySelector("[data-act=mark]");
    this.remover = element.querySelector("[data-act=unmark]");
    this.status = element.querySelector("[role=status]");
    this.shape = element.dataset.shape;
    this.changed = changed;
    this.stop = null;
    this.button.addEventListener("click", () => (this.stop ? this.end() : this.begin()));
    this.remover.addEventListener("click", () => this.set(null));
    this.show();
  }

  get mark() {
    try {
      return JSON.parse(this.input.value);
    } catch {
      return null; // nothing is marked
    }
  }

  set(mark) {
    this.end();
    this.input.value = mark ? JSON.stringify(mark) : "";
    this.show();
    this.changed();
  }

  begin() {
    this.others.forEach((one) => one.end());
    const pictures = [...document.querySelectorAll(".picture svg[data-image]")];
    const given = (mark) => this.set(mark);
    const stops = pictures.map((svg) => pick(svg, this.shape, given, () => this.end()));
    const viewer = pictures.length ? null : watchViewer(this.shape, given);
    if (!pictures.length && !viewer) {
      this.status.textContent = "no image is shown here that could be marked";
      return;
    }
    this.stop = () => {
      stops.forEach((stop) => stop());
      viewer?.();
    };
    this.button.setAttribute("aria-pressed", "true");
    this.status.textContent = this.shape === "box"
      ? "draw the box on the image (keys: arrows, Enter at both corners, Esc)"
      : "click the place on the image (keys: arrows, Enter, Esc)";
    pictures[0]?.focus();
  }

  end() {
    if (!this.stop) return;
    this.stop();
    this.stop = null;
    this.button.setAttribute("aria-pressed", "false");
    this.show();
    this.button.focus();
  }

  show() {
    const mark = this.mark;
    const name = this.input.name;
    document.querySelectorAll(".own-mark").forEach((one) => one.dataset.of === name && one.remove());
    this.remover.hidden = !mark;
    if (!mark) {
      this.status.textContent = "not marked yet";
      return;
    }
    this.status.textContent = `marked at ${Math.round(mark.x)}, ${Math.round(mark.y)}`;
    for (const svg of document.querySelectorAll(".picture svg[data-image]"))
      if (svg.dataset.image === mark.sop_instance_uid && Number(svg.dataset.frame) === mark.frame)
        draw(svg, mark, name);
  }
}

function draw(svg, mark, name) {
  for (const kind of ["own-mark rim", "own-mark"]) {
    const shape = document.createElementNS(SVG, mark.x1 === undefined ? "circle" : "rect");
    const unit = svg.viewBox.baseVal.width / 60;
    const places = mark.x1 === undefined
      ? { cx: mark.x, cy: mark.y, r: unit }
      : { x: mark.x, y: mark.y, width: mark.x1 - mark.x, height: mark.y1 - mark.y };
    for (const [key, value] of Object.entries(places)) shape.setAttribute(key, value);
    shape.setAttribute("class", kind);
    shape.dataset.of = name;
    svg.append(shape);
  }
}

// Takes a point or a box from a picture, by pointer or by keys.
function pick(svg, shape, done, cancel) {
  const { width, height } = svg.viewBox.baseVal;
  const inside = ({ x, y }) => ({ x: Math.min(Math.max(x, 0), width), y: Math.min(Math.max(y, 0), height) });
  let first = null;
  let cursor = { x: width / 2, y: height / 2 };
  let isDrawing = false;

  const of = (event) => {
    const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    return inside(place);
  };
  const outline = (a, b) => {
    svg.querySelectorAll("[data-of='']").forEach((one) => one.remove());
    if (shape === "point") draw(svg, a, "");
    else draw(svg, corners(a, b), "");
  };
  const corners = (a, b) => ({
    x: Math.min(a.x, b.x), y: Math.min(a.y, b.y), x1: Math.max(a.x, b.x), y1: Math.max(a.y, b.y),
  });
  const finish = (a, b) => {
    const place = shape === "point" ? { x: a.x, y: a.y } : corners(a, b);
    if (shape === "box" && (place.x1 - place.x < 1 || place.y1 - place.y < 1)) return;
    for (const key of Object.keys(place)) place[key] = round(place[key]);
    done({ sop_instance_uid: svg.dataset.image, frame: Number(svg.dataset.frame), ...place });
  };
  const on = {
    pointerdown(event) {
      if (event.button) return;
      event.preventDefault();
      svg.setPointerCapture(event.pointerId);
      [first, isDrawing] = [of(event), true];
    },
    pointermove(event) {
      if (isDrawing && shape === "box") outline(first, of(event));
    },
    pointerup(event) {
      if (!isDrawing) return;
      isDrawing = false;
      const from = first;
      first = null;
      finish(shape === "point" ? of(event) : from, of(event));
    },
    keydown(event) {
      const step = (event.shiftKey ? 0.1 : 0.01) * Math.max(width, height);
      const by = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
      if (event.key === "Escape") cancel();
      else if (event.key === "Enter" || event.key === " ") {
        if (shape === "point" || first) finish(shape === "point" ? cursor : first, cursor);
        else first = cursor;
      } else if (by) {
        cursor = inside({ x: cursor.x + by[0], y: cursor.y + by[1] });
        outline(first ?? cursor, cursor);
      } else return;
      event.preventDefault();
      event.stopPropagation();
    },
  };
  const before = svg.getAttribute("tabindex");
  svg.setAttribute("tabindex", "0");
  svg.classList.add("marking");
  for (const [name, listen] of Object.entries(on)) svg.addEventListener(name, listen);
  return () => {
    for (const [name, listen] of Object.entries(on)) svg.removeEventListener(name, listen);
    svg.querySelectorAll("[data-of='']").forEach((one) => one.remove());
    svg.classList.remove("marking");
    if (before === null) svg.removeAttribute("tabindex");
  };
}
