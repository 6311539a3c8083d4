// Which words moved a score: the pair is scored again without each of its words, all in one call.

import { h } from "./dom.js";
import { call } from "./http.js";

const MOST_WORDS = 80; // of a pair; the words after them are not tried
const FAINTEST = 0.02; // a change of the score that is shown with full colour where no word changes it more

/** Return the words of a text with their places, also where no spaces divide them (Japanese, Thai). */
export function words(text, language) {
  if (!("Segmenter" in Intl))
    return [...text.matchAll(/\S+/g)].map((match) => ({ word: match[0], index: match.index }));
  const segments = new Intl.Segmenter(language || undefined, { granularity: "word" }).segment(text);
  return [...segments].filter((each) => each.isWordLike).map(({ segment, index }) => ({ word: segment, index }));
}

/** Return a text without one of its words. */
export function without(text, { word, index }) {
  return (text.slice(0, index) + text.slice(index + word.length)).trim();
}

export class Words {
  constructor({ task, query, language }, candidate) {
    this.task = task;
    this.texts = { query, candidate };
    this.language = language;
  }

  /** Score, and return the two texts with their words coloured by what they change. Throws ServiceError. */
  async element() {
    const tried = this.variants();
    const pairs = [this.texts, ...tried.map((each) => each.texts)].map((pair) => ({
      ...pair,
      language: this.language,
    }));
    const body = { task: this.task, pairs };
    const headers = { "X-Relevance-Model": "active" };
    const { scores } = (await call("v1/score", { method: "POST", body, headers })).data;
    const [whole, ...left] = scores.map((each) => each.score);
    tried.forEach((each, place) => (each.moved = whole - left[place]));
    const most = Math.max(FAINTEST, ...tried.map((each) => Math.abs(each.moved)));
    return h(
      "div",
      {},
      h(
        "p",
        { class: "muted small" },
        "How much each word raises (blue) or lowers (orange) the score: the score less that without the word.",
      ),
      ["query", "candidate"].map((side) => this.line(side, tried, most)),
    );
  }

  variants() {
    const found = [];
    for (const side of ["query", "candidate"]) {
      for (const each of words(this.texts[side], this.language)) {
        const rest = without(this.texts[side], each);
        if (/[\p{L}\p{N}]/u.test(rest)) found.push({ side, ...each, texts: { ...this.texts, [side]: rest } });
      }
    }
    return found.slice(0, MOST_WORDS);
  }

  line(side, tried, most) {
    const text = this.texts[side];
    const parts = [];
    let end = 0;
    for (const { word, index, moved } of tried.filter((each) => each.side === side)) {
      parts.push(between(text.slice(end, index)));
      const effect = moved >= 0 ? "up" : "down";
      const strength = Math.round((100 * Math.abs(moved)) / most);
      const size = Math.abs(moved).toFixed(2);
      const number = size === "0.00" ? size : `${moved >= 0 ? "+" : "−"}${size}`;
      parts.push(
        h(
          "span",
          { class: `word ${effect}`, style: { "--strength": `${strength}%` } },
          h("b", {}, word),
          h("small", {}, number),
        ),
      );
      end = index + word.length;
    }
    parts.push(between(text.slice(end)));
    return h("p", { class: "worded", dir: "auto" }, h("span", { class: "side muted" }, `${side} `), parts);
  }
}

/** What stands between two words: an element of its own, so that lines break there. */
function between(text) {
  return text && h("span", {}, text);
}
