// One line chart over time, drawn by uPlot; its colours follow the theme.

import { h, short } from "./dom.js";

const HEIGHT = 190;
const ALONE_SECONDS = 60; // shown before a point that is the only one; uPlot would show a thousand days from it on
const TONES = ["one", "two", "three", "four", "five"];

export class Chart {
  /** `names` are those of the lines; `unit` stands behind their values; `empty` is shown without values. */
  constructor(title, names, unit, empty = "Nothing yet") {
    this.unit = unit;
    this.data = [[], ...names.map(() => [])];
    this.values = names.map(() => h("b", {}, "–"));
    this.plot = h("div", { class: "plot", role: "img", "aria-label": title });
    this.empty = h("p", { class: "empty" }, empty);
    const keys = names.map((name, place) =>
      h("li", {}, h("span", { class: `line-key tone-${TONES[place]}` }), name, this.values[place]),
    );
    this.tones = keys.map((key) => key.firstChild);
    this.element = h(
      "section",
      { class: "card chart" },
      h("h2", {}, title),
      h("ul", { class: "keys" }, keys),
      this.plot,
    );
    this.plot.append(this.empty);
    this.title = title;
    this.repaint = () => this.drawn?.redraw(false);
    this.resize = new ResizeObserver(([{ contentRect }]) => {
      if (contentRect.width) this.draw(Math.floor(contentRect.width));
    });
    this.resize.observe(this.plot);
    document.addEventListener("theme", this.repaint);
  }

  /** Show lines: times in seconds, and the values of each line (null: none). */
  update(times, lines) {
    this.data = [times, ...lines];
    this.empty.hidden = lines.some((line) => line.some((value) => value !== null));
    this.drawn?.setData(this.data);
    this.label(times.length - 1);
  }

  leave() {
    this.resize.disconnect();
    document.removeEventListener("theme", this.repaint);
    this.drawn?.destroy();
  }

  draw(width) {
    if (this.drawn) this.drawn.setSize({ width, height: HEIGHT });
    else this.drawn = new window.uPlot(this.options(width), this.data, this.plot);
  }

  /** Write the values at a place beside the names of the lines. */
  label(place) {
    const shown = this.data.slice(1).map((line) => line[place] ?? null);
    shown.forEach(
      (value, line) => (this.values[line].textContent = value === null ? "–" : `${short(value)} ${this.unit}`),
    );
    const said = this.values.map((value) => `${value.previousSibling.textContent} ${value.textContent}`);
    this.plot.setAttribute("aria-label", `${this.title}: ${said.join(", ")}`);
  }

  options(width) {
    const color = (name) => () => resolved(this.element, name);
    const axis = {
      stroke: color("--muted"),
      grid: { stroke: color("--line"), width: 1 },
      ticks: { show: false },
      font: "12px system-ui, sans-serif",
    };
    return {
      width,
      height: HEIGHT,
      legend: { show: false },
      padding: [10, 8, 8, 0], // below too: without times there is no axis under the lowest label
      cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false } },
      hooks: { setCursor: [(plot) => this.label(plot.cursor.idx ?? this.data[0].length - 1)] },
      scales: {
        x: { range: (plot, low, high) => (isAlone(plot) ? [low - ALONE_SECONDS, low] : [low, high]) },
        y: { range: (_, low, high) => [0, high > 0 ? high * 1.08 : 1] },
      },
      axes: [
        { ...axis, size: 28, space: 70, values: (_, times) => times.map(clock) },
        { ...axis, size: 52, values: (_, values) => values.map((value) => compact(value)) },
      ],
      series: [
        {},
        ...this.tones.map((key) => ({
          stroke: () => resolved(key, "--tone"),
          width: 2,
          spanGaps: false,
          points: { show: isAlone, size: 6 },
        })),
      ],
    };
  }
}

/** Return a custom property as a colour that a canvas understands: with `light-dark` and variables resolved. */
export function resolved(element, name) {
  const probe = h("span", { hidden: true, style: { color: `var(${name})` } });
  element.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

/** Whether a chart has one point, which makes no line. */
function isAlone(plot) {
  return plot.data[0].length === 1;
}

function clock(seconds) {
  return new Date(1000 * seconds).toLocaleTimeString("en-GB");
}

function compact(value) {
  return Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 }).format(value);
}
