// The plots of a case: one line for each region and source, thresholds with their repeatability, points of
// other acquisitions hollow. What is drawn stands as JSON beside each (see portal/plot.py).
import uPlot from "/static/uPlot.esm.js";

const HEIGHT = remOf(10.5); // as the style sheet keeps for it: larger on large screens
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS = 86400;

function remOf(size) {
  return size * parseFloat(getComputedStyle(document.documentElement).fontSize);
}

/** Draw every plot below an element that is not drawn yet. */
export function drawPlots(root = document) {
  for (const figure of root.querySelectorAll("[data-plot]:not([data-drawn])")) new Plot(figure);
}

class Plot {
  constructor(figure) {
    this.figure = figure;
    this.area = figure.querySelector(".canvas");
    this.hover = figure.querySelector(".hover");
    this.told = JSON.parse(figure.querySelector("script").textContent);
    this.lines = this.told.lines.filter((line) => line.points.length);
    this.near = null;
    this.align();
    this.chart = new uPlot(this.options(), this.data, this.area);
    figure.dataset.drawn = "";
    const resize = new ResizeObserver(() => {
      if (!figure.isConnected) resize.disconnect();
      else if (this.area.clientWidth) this.chart.setSize({ width: this.area.clientWidth, height: HEIGHT });
    });
    resize.observe(this.area);
    this.area.addEventListener("keydown", (event) => this.key(event));
    this.area.addEventListener("blur", () => this.show(null));
    // A change of theme changes the colours that are read off the page.
    const redraw = () => this.chart.redraw();
    matchMedia("(prefers-color-scheme: light)").addEventListener("change", redraw);
    new MutationObserver(redraw).observe(document.documentElement, { attributes: true });
  }

  /** Lay all lines over one time axis; two points of a line at one time lie a second apart. */
  align() {
    for (const line of this.lines) {
      let last = -Infinity;
      for (const point of line.points) {
        point.x = Math.max(point.at, last + 1);
        last = point.x;
      }
    }
    const times = [...new Set(this.lines.flatMap((line) => line.points.map((point) => point.x)))].sort((a, b) => a - b);
    const place = new Map(times.map((time, index) => [time, index]));
    this.data = [times];
    for (const line of this.lines) {
      const values = new Array(times.length).fill(null);
      for (const point of line.points) values[place.get(point.x)] = point.value;
      this.data.push(values);
    }
    this.points = this.lines
      .flatMap((line) => line.points.map((point) => ({ ...point, line })))
      .sort((one, other) => one.x - other.x);
  }

  colour(name) {
    return getComputedStyle(this.figure).getPropertyValue(name).trim();
  }

  options() {
    const small = `${remOf(0.6875)}px ${getComputedStyle(this.figure).fontFamily}`;
    const axis = {
      stroke: () => this.colour("--plot-text"),
      grid: { stroke: () => this.colour("--plot-grid"), width: 1 },
      ticks: { show: false },
      font: small,
    };
    return {
      width: this.area.clientWidth || 400,
      height: HEIGHT,
      padding: [14, 12, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
      scales: { x: { range: (_, least, most) => padded(least, most) }, y: { range: (_, least, most) => this.range(least, most) } },
      axes: [
        { ...axis, size: 24, space: 64, values: (_, splits) => dates(splits, this.data[0]), grid: { show: false } },
        { ...axis, size: 46, space: 28 },
      ],
      series: [
        {},
        ...this.lines.map((line) => ({
          label: line.label,
          stroke: () => this.colour(`--${line.look}`),
          width: 2,
          dash: line.edit ? [5, 4] : undefined,
          spanGaps: true,
          points: { show: false },
        })),
      ],
      hooks: {
        drawClear: [() => this.drawLevels()],
        draw: [() => this.drawPoints()],
        setCursor: [(chart) => this.point(chart)],
        ready: [(chart) => chart.over.addEventListener("click", () => this.open())],
      },
    };
  }

  /** From zero, unless everything lies far above it; with room for the thresholds. */
  range(least, most) {
    const levels = this.shownLevels();
    const low = Math.min(least ?? 0, ...levels.map((level) => level.low));
    const high = Math.max(most ?? 1, ...levels.map((level) => level.high));
    const room = (high - low || Math.abs(high) || 1) * 0.12;
    return [low >= 0 && low < 0.6 * high ? 0 : low - room, high + room];
  }

  /** Those of the line that is pointed at, or of the first; of all at once they could not be told apart. */
  shownLevels() {
    return (this.near?.line ?? this.lines[0])?.levels ?? [];
  }

  drawLevels() {
    const { ctx, bbox } = this.chart ?? {};
    if (!ctx) return;
    const { left, width } = bbox;
    const y = (value) => this.chart.valToPos(value, "y", true);
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    for (const level of this.shownLevels()) {
      ctx.fillStyle = this.colour("--plot-band");
      ctx.fillRect(left, y(level.high), width, y(level.low) - y(level.high));
      ctx.strokeStyle = ctx.fillStyle = this.colour("--plot-level");
      ctx.lineWidth = devicePixelRatio;
      ctx.setLineDash([3 * devicePixelRatio, 4 * devicePixelRatio]);
      ctx.beginPath();
      ctx.moveTo(left, y(level.value));
      ctx.lineTo(left + width, y(level.value));
      ctx.stroke();
      ctx.font = `${remOf(0.65625) * devicePixelRatio}px ${getComputedStyle(this.figure).fontFamily}`;
      ctx.textBaseline = "bottom";
      ctx.textAlign = "left";
      ctx.fillText(level.words, left + 4 * devicePixelRatio, y(level.high) - 2 * devicePixelRatio);
    }
    ctx.restore();
  }

  drawPoints() {
    const { ctx } = this.chart ?? {};
    if (!ctx) return;
    ctx.save();
    ctx.setLineDash([]);
    for (const point of this.points) {
      const radius = (point.now ? 5.5 : 3.5) * devicePixelRatio;
      const [x, y] = [this.chart.valToPos(point.x, "x", true), this.chart.valToPos(point.value, "y", true)];
      ctx.lineWidth = 2 * devicePixelRatio;
      ctx.strokeStyle = this.colour(`--${point.line.look}`);
      ctx.fillStyle = point.otherwise ? this.colour("--plot-ground") : ctx.strokeStyle;
      ctx.beginPath();
      ctx.arc(x, y, radius, 0, 2 * Math.PI);
      ctx.fill();
      ctx.stroke();
      if (point.now || point === this.near) {
        ctx.strokeStyle = this.colour("--plot-now");
        ctx.lineWidth = (point === this.near ? 2 : 1.5) * devicePixelRatio;
        ctx.beginPath();
        ctx.arc(x, y, radius + 3 * devicePixelRatio, 0, 2 * Math.PI);
        ctx.stroke();
      }
    }
    ctx.restore();
  }

  /** Find what the pointer is near to. */
  point(chart) {
    const { left, top } = chart.cursor;
    if (document.activeElement === this.area && left < 0) return;
    let [near, least] = [null, 40];
    for (const point of left < 0 ? [] : this.points) {
      const away = Math.hypot(chart.valToPos(point.x, "x") - left, chart.valToPos(point.value, "y") - top);
      if (away < least) [near, least] = [point, away];
    }
    this.show(near);
  }

  show(near) {
    if (near === this.near) return;
    this.near = near;
    this.chart.over.classList.toggle("may-open", near !== null && !near.now);
    const words = near ? [...(this.lines.length > 1 ? [near.line.label] : []), ...near.words] : [];
    this.hover.textContent = words.join(" · ");
    this.chart.setData(this.data); // the thresholds may be another line's now
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) {
      const now = this.points.findIndex((point) => point.now);
      const from = this.near ? this.points.indexOf(this.near) : Math.max(now, 0) - step;
      this.show(this.points[Math.min(Math.max(from + step, 0), this.points.length - 1)]);
    } else if (event.key === "Escape") this.show(null);
    else if (event.key === "Enter") this.open();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  open() {
    if (this.near && !this.near.now) location.assign(this.near.href);
  }
}

function padded(least, most) {
  const room = Math.max((most - least) * 0.04, DAYS);
  return [least - room, most + room];
}

function dates(splits, times) {
  const isShort = times[times.length - 1] - times[0] < 120 * DAYS;
  return splits.map((split) => {
    const date = new Date(split * 1000);
    const month = MONTHS[date.getUTCMonth()];
    return isShort ? `${date.getUTCDate()} ${month}` : `${month} ${String(date.getUTCFullYear()).slice(2)}`;
  });
}
