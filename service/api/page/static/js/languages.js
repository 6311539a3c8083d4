// The table of a model's languages: metrics with their intervals, thresholds, offsets, and the advice on re-ranking.

import { h, languageName, short } from "./dom.js";

const ADVICE = { rerank: "re-rank", keep_order: "keep the order", unproven: "unproven" };
const LOWEST_AUC = 0.4; // the left end of the intervals; a worse model than chance lies at the edge

export class LanguageTable {
  constructor(model) {
    this.model = model;
    const { metrics, rerank_advice: advice, calibration } = model;
    this.columns = [
      ["Rows", (code) => short(metrics.languages[code].rows)],
      ["Relevant", (code) => percent(metrics.languages[code].positives / metrics.languages[code].rows)],
      ["F1", (code) => figure(metrics.languages[code].f1)],
      ["Gain over always yes", (code) => figure(metrics.languages[code].f1_gain, true)],
      ["AUC", (code) => drawn(metrics.languages[code].auc)],
    ];
    if (metrics?.ranking) this.columns.push(["nDCG@10", (code) => figure(metrics.ranking.languages[code]?.ndcg_at_10)]);
    this.columns.push(["Threshold", (code) => this.threshold(code)]);
    if (Object.keys(calibration.by_language).length)
      this.columns.push(["Offset", (code) => short(calibration.by_language[code]?.offset ?? 0, 2)]);
    if (Object.keys(advice).length) this.columns.push(["Re-ranking", (code) => ADVICE[advice[code]] ?? "–"]);
    this.element = metrics ? this.build(Object.keys(metrics.languages)) : null;
  }

  build(codes) {
    const seen = new Set(this.model.seen_languages);
    const name = (code) => [
      languageName(code),
      " ",
      h("span", { class: "muted small" }, seen.has(code) ? code : `${code}, unseen`),
    ];
    return h(
      "section",
      { class: "card" },
      h("h2", {}, "Languages"),
      h(
        "div",
        { class: "scroll", tabindex: "0", role: "region", "aria-label": "Languages" },
        h(
          "table",
          {},
          h(
            "thead",
            {},
            h(
              "tr",
              {},
              h("th", { scope: "col" }, "Language"),
              this.columns.map(([title]) => h("th", { scope: "col" }, title)),
            ),
          ),
          h(
            "tbody",
            {},
            codes.map((code) =>
              h(
                "tr",
                {},
                h("th", { scope: "row" }, name(code)),
                this.columns.map(([, make]) => h("td", {}, make(code))),
              ),
            ),
          ),
        ),
      ),
    );
  }

  /** The threshold of a language, and how it was found where it has one of its own. */
  threshold(code) {
    const own = this.model.language_thresholds[code];
    const source = this.model.threshold_sources[code];
    const how = source
      ? `${source.method}, ${source.rows} rows of ${source.source}`
      : own === undefined
        ? "the overall one"
        : "its own";
    return h("span", { title: how }, short(own ?? this.model.threshold));
  }
}

function figure(interval, signed = false) {
  if (interval?.value == null) return "–";
  const text = (value) => `${signed && value > 0 ? "+" : ""}${value.toFixed(3)}`;
  const range = interval.low == null ? "" : ` [${text(interval.low)}, ${text(interval.high)}]`;
  return [text(interval.value), h("span", { class: "muted small bounds" }, range)];
}

function drawn(interval) {
  const [value, bounds] = figure(interval);
  return [value, track(interval), bounds];
}

/** Draw a value and its interval between LOWEST_AUC and 1. */
function track({ value, low, high }) {
  if (value == null) return null;
  const place = (each) => `${(100 * Math.max(0, each - LOWEST_AUC)) / (1 - LOWEST_AUC)}%`;
  const width = low == null ? "0%" : `${(100 * (high - Math.max(low, LOWEST_AUC))) / (1 - LOWEST_AUC)}%`;
  return h(
    "span",
    { class: "interval", "aria-hidden": "true" },
    h("span", { class: "range", style: { left: place(low ?? value), width } }),
    h("span", { class: "point", style: { left: place(value) } }),
  );
}

function percent(share) {
  return `${(100 * share).toFixed(0)} %`;
}
