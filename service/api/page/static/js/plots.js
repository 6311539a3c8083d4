// Two plots of a model: its scores on the dev rows and live with the threshold, and what calibration does to logits.

import { resolved } from "./chart.js";
import { h, languageName, short } from "./dom.js";

const BINS = 20;
const HEIGHT = 220;
const FARTHEST_LOGIT = 8;

export class Plots {
  constructor(task, model) {
    this.model = model;
    this.live = new Map(); // counts of live scores by language, in twentieths
    this.drawn = [];
    this.language = h(
      "select",
      { id: "plot-language", on: { change: () => this.draw() } },
      h("option", { value: "" }, "all"),
      Object.keys(model.language_histograms).map((code) => h("option", { value: code }, languageName(code))),
    );
    this.scores = h("div", { class: "plot" });
    this.curve = h("div", { class: "plot" });
    this.element = h("div", { class: "plots" }, this.scoresCard(), this.curveCard());
    this.repaint = () => this.draw();
    document.addEventListener("theme", this.repaint);
    this.resize = new ResizeObserver(() => this.draw());
    this.resize.observe(this.scores);
  }

  leave() {
    this.resize.disconnect();
    document.removeEventListener("theme", this.repaint);
    for (const plot of this.drawn) plot.destroy();
  }

  scoresCard() {
    if (!this.model.score_histogram.length) return null;
    return h(
      "section",
      { class: "card chart" },
      h(
        "div",
        { class: "head" },
        h("h2", {}, "Scores"),
        h("div", { class: "row" }, h("label", { for: "plot-language" }, "Language"), this.language),
      ),
      keys([
        ["one", "dev rows"],
        ["three", "live"],
        ["text", "threshold"],
      ]),
      this.scores,
    );
  }

  curveCard() {
    const { scale, offset } = this.model.calibration;
    const changed = scale !== 1 || offset !== 0;
    const text = changed
      ? `score = sigmoid(${short(scale)} · logit ${offset < 0 ? "−" : "+"} ${short(Math.abs(offset))})`
      : "score = sigmoid(logit): not calibrated";
    return h(
      "section",
      { class: "card chart" },
      h("h2", {}, "Calibration"),
      keys([
        ["one", text],
        ...(changed ? [["two", "without calibration"]] : []),
        ["text", `threshold ${short(this.model.threshold)}`],
      ]),
      this.curve,
    );
  }

  /** Take in the live histogram of scores, which counts since the process started. */
  measure(series) {
    this.live = new Map();
    for (const { name, labels, value } of series) {
      if (name !== "score_bucket" || labels.le === "+Inf") continue;
      if (!this.live.has(labels.language)) this.live.set(labels.language, new Array(BINS).fill(0));
      this.live.get(labels.language)[Math.round(Number(labels.le) * BINS) - 1] = value;
    }
    this.draw();
  }

  draw() {
    const width = Math.floor(this.curve.clientWidth);
    if (!width) return;
    for (const plot of this.drawn) plot.destroy();
    this.drawn = [this.drawScores(width), this.drawCurve(width)].filter(Boolean);
  }

  drawScores(width) {
    const code = this.language.value;
    const dev = shares(code ? this.model.language_histograms[code] : this.model.score_histogram);
    if (!dev) return null;
    const live = shares(this.liveOf(code));
    const threshold = (code && this.model.language_thresholds[code]) || this.model.threshold;
    this.scores.setAttribute("role", "img");
    this.scores.setAttribute(
      "aria-label",
      `Shares of the scores in each twentieth, ${code ? languageName(code) : "all languages"}, threshold ${short(threshold)}`,
    );
    const middles = dev.map((_, place) => (place + 0.5) / BINS);
    const bars = window.uPlot.paths.bars({ size: [0.85, 100] });
    const tone = (name) => resolved(this.element, name);
    return this.plot(this.scores, width, [middles, dev, live ?? dev.map(() => null)], {
      x: [0, 1],
      mark: { x: threshold },
      format: (value) => `${(100 * value).toFixed(0)} %`,
      series: [
        { paths: bars, fill: tone("--accent-soft"), stroke: tone("--one"), width: 1, points: { show: false } },
        { stroke: tone("--three"), width: 2, points: { show: false } },
      ],
    });
  }

  liveOf(code) {
    const chosen = code ? [this.live.get(code)] : [...this.live.values()];
    const cumulative = chosen
      .filter(Boolean)
      .reduce((sum, each) => sum.map((count, place) => count + each[place]), new Array(BINS).fill(0));
    return cumulative.map((count, place) => count - (place ? cumulative[place - 1] : 0));
  }

  drawCurve(width) {
    const { scale, offset } = this.model.calibration;
    const logits = Array.from({ length: 161 }, (_, place) => FARTHEST_LOGIT * (place / 80 - 1));
    const plain = logits.map(sigmoid);
    const calibrated = logits.map((logit) => sigmoid(scale * logit + offset));
    const changed = scale !== 1 || offset !== 0;
    this.curve.setAttribute("role", "img");
    this.curve.setAttribute("aria-label", `Score over logit, threshold ${short(this.model.threshold)}`);
    const tone = (name) => resolved(this.element, name);
    return this.plot(this.curve, width, [logits, calibrated, ...(changed ? [plain] : [])], {
      x: [-FARTHEST_LOGIT, FARTHEST_LOGIT],
      mark: { y: this.model.threshold },
      format: (value) => value.toFixed(1),
      series: [
        { stroke: tone("--one"), width: 2, points: { show: false } },
        ...(changed ? [{ stroke: tone("--two"), width: 1.5, dash: [4, 4], points: { show: false } }] : []),
      ],
    });
  }

  plot(place, width, data, { x, mark, format, series }) {
    const tone = (name) => resolved(this.element, name);
    const axis = {
      stroke: tone("--muted"),
      grid: { stroke: tone("--line"), width: 1 },
      ticks: { show: false },
      font: "12px system-ui, sans-serif",
    };
    const line = (plot) => drawMark(plot, mark, tone("--text"));
    const options = {
      width,
      height: HEIGHT,
      legend: { show: false },
      cursor: { show: false },
      padding: [10, 8, 0, 0],
      hooks: { draw: [line] },
      scales: { x: { time: false, range: () => x }, y: { range: (_, low, high) => [0, Math.max(high * 1.08, 0.01)] } },
      axes: [
        { ...axis, size: 28 },
        { ...axis, size: 48, values: (_, values) => values.map(format) },
      ],
      series: [{}, ...series],
    };
    return new window.uPlot(options, data, place);
  }
}

/** Draw the dashed line of a threshold on a plot: at `x`, or at `y`. */
function drawMark(plot, { x, y }, color) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.strokeStyle = color;
  ctx.lineWidth = 2;
  ctx.setLineDash([6, 4]);
  ctx.beginPath();
  const [left, top] = [plot.valToPos(x ?? 0, "x", true), plot.valToPos(y ?? 0, "y", true)];
  if (x !== undefined) {
    ctx.moveTo(left, bbox.top);
    ctx.lineTo(left, bbox.top + bbox.height);
  } else {
    ctx.moveTo(bbox.left, top);
    ctx.lineTo(bbox.left + bbox.width, top);
  }
  ctx.stroke();
  ctx.restore();
}

function keys(named) {
  return h(
    "ul",
    { class: "keys" },
    named.map(([tone, text]) => h("li", {}, h("span", { class: `line-key tone-${tone}` }), text)),
  );
}

function shares(counts) {
  const total = (counts ?? []).reduce((sum, count) => sum + count, 0);
  return total ? counts.map((count) => count / total) : null;
}

function sigmoid(logit) {
  return 1 / (1 + Math.exp(-logit));
}
