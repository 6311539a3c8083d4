// One candidate with its score: the bar, the threshold, the challenger's score, and the words that moved it.

import { fill, h } from "./dom.js";
import { Words } from "./words.js";

const digits = (score) => score.toFixed(3);

export class Result {
  /** `scored` has `score`, `label`, `threshold` and `cut`; `rival` is the same of the challenger, or undefined. */
  constructor(body, candidate, scored, rival) {
    this.body = body;
    this.candidate = candidate;
    this.scored = scored;
    this.why = h(
      "button",
      { type: "button", class: "quiet small", "aria-expanded": "false", on: { click: () => this.explain() } },
      "Why?",
    );
    this.words = h("div", { class: "words", hidden: true });
    const disagree = rival && rival.label !== scored.label;
    this.element = h(
      "li",
      { class: "result", data: { label: scored.label } },
      h(
        "div",
        { class: "line" },
        h("span", { class: "text", dir: "auto" }, candidate),
        scored.cut &&
          h("span", { class: "tag warn", title: "longer than the model reads: its end was left out" }, "cut"),
        disagree && h("span", { class: "tag warn" }, "labels differ"),
        h("span", { class: "score" }, digits(scored.score)),
        this.why,
      ),
      bar(scored, ""),
      rival && bar(rival, "challenger"),
      this.words,
    );
  }

  /** Show or hide the words; they are scored when first shown. */
  async explain() {
    const open = this.words.hidden;
    this.words.hidden = !open;
    this.why.setAttribute("aria-expanded", String(open));
    if (!open || this.words.hasChildNodes()) return;
    fill(this.words, h("p", { class: "muted small" }, "Scoring without each word…"));
    try {
      fill(this.words, await new Words(this.body, this.candidate).element());
    } catch (error) {
      fill(this.words, h("p", { class: "notice bad" }, error.message));
    }
  }
}

function bar({ score, label, threshold }, whose) {
  const verdict = label ? "relevant" : "not relevant";
  const says = `${whose && `${whose}: `}score ${digits(score)}, threshold ${digits(threshold)}: ${verdict}`;
  return h(
    "div",
    { class: `bar ${whose}`, role: "img", "aria-label": says, title: says, data: { label } },
    h("span", { class: "fill", style: { width: `${100 * score}%` } }),
    h("span", { class: "mark", style: { left: `${100 * threshold}%` } }),
    whose && h("span", { class: "whose" }, `challenger ${digits(score)}`),
  );
}
