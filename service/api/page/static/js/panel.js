// One task of the playground: its candidates, the scores of its models, and what the scoring took.

import { fill, h, languageName, short } from "./dom.js";
import { call } from "./http.js";
import { Result } from "./result.js";
import { timing } from "./timing.js";

const NAMES = { qc: "Categories", qi: "Item titles", rerank: "Documents" };
const WHAT = {
  qc: "Does the category fit the query?",
  qi: "Does the title answer the query?",
  rerank: "Does the document answer the query?",
};
const UNTUNED =
  "Untuned model: the encoder as it is, under a head that starts from cosines. Where fine-tuning goes on, this page " +
  "changes to its model by itself.";
const ACTIVE = "active";
const CHALLENGER = "challenger";

export class Panel {
  /** `models` is the answer of `/v1/models/{task}`; `again` scores all panels. */
  constructor({ task, models }, text, again) {
    this.task = task;
    this.name = NAMES[task] ?? task;
    this.sorted = true;
    this.untuned = h("p", { class: "notice warn" }, UNTUNED);
    this.take(models);
    this.build(text, again);
  }

  /** Take over the task's models. Returns whether another one is active than before. */
  take(models) {
    const before = this.active?.version;
    this.active = models.find((model) => model.role === ACTIVE);
    this.challenger = models.find((model) => model.role === CHALLENGER);
    this.untuned.hidden = this.active?.fine_tuned !== false;
    return before !== undefined && before !== this.active?.version;
  }

  /** Whether the model that answers was not fine-tuned: another one may take its place soon. */
  get isUntuned() {
    return !this.untuned.hidden;
  }

  get text() {
    return this.area.value;
  }

  set text(value) {
    this.area.value = value;
    this.count();
  }

  get candidates() {
    return this.area.value
      .split("\n")
      .map((line) => line.trim())
      .filter(Boolean);
  }

  /** Return the body of the request, as `/v1/score` takes it. */
  body({ query, language }) {
    return { task: this.task, query, ...(language && { language }), candidates: this.candidates };
  }

  leave() {
    this.waiting?.abort();
  }

  build(text, again) {
    const id = `candidates-${this.task}`;
    this.area = h("textarea", {
      id,
      rows: 8,
      dir: "auto",
      spellcheck: "false",
      value: text,
      on: { input: () => this.count(), change: again },
    });
    this.summary = h("summary");
    this.about = h("p", { class: "about muted" });
    this.list = h("ol", { class: "results" });
    this.foot = h("div", { class: "foot" });
    this.compares = h("input", { type: "checkbox", checked: true, on: { change: again } });
    const order = h(
      "button",
      { type: "button", class: "quiet small", on: { click: () => this.turn(order) } },
      "As given",
    );
    this.element = h(
      "section",
      { class: "card panel", "aria-labelledby": `name-${this.task}` },
      h(
        "div",
        { class: "head" },
        h(
          "div",
          {},
          h("h2", { id: `name-${this.task}` }, this.name),
          h("p", { class: "muted" }, WHAT[this.task] ?? ""),
        ),
        order,
      ),
      this.about,
      this.untuned,
      this.trial(),
      this.list,
      this.foot,
      h(
        "details",
        { class: "edit" },
        this.summary,
        h("label", { for: id, class: "muted" }, "One candidate a line"),
        this.area,
      ),
    );
    this.count();
  }

  /** The choice to score with the challenger too, where it answers callers. */
  trial() {
    if (!this.challenger) return null;
    if (this.challenger.mode !== "canary") {
      const hint =
        "A challenger is tried as a shadow, which answers nobody. As a canary with share 0 it can be compared here.";
      return h("p", { class: "muted small" }, hint);
    }
    const name = `Compare with the challenger ${this.challenger.name} ${this.challenger.version}`;
    return h("label", { class: "check" }, this.compares, h("span", {}, name));
  }

  count() {
    const count = this.candidates.length;
    this.summary.textContent = `Edit the ${count} candidate${count === 1 ? "" : "s"}`;
  }

  turn(button) {
    this.sorted = !this.sorted;
    button.textContent = this.sorted ? "As given" : "Best first";
    this.arrange();
  }

  async score(request) {
    this.waiting?.abort();
    const { signal } = (this.waiting = new AbortController());
    const body = this.body(request);
    if (!body.candidates.length) {
      this.element.removeAttribute("aria-busy"); // of the request that was just given up
      return this.fail("There are no candidates: add one a line below.");
    }
    this.element.setAttribute("aria-busy", "true");
    try {
      const roles = this.challenger?.mode === "canary" && this.compares.checked ? [ACTIVE, CHALLENGER] : [ACTIVE];
      const answers = await Promise.all(
        roles.map((role) => call("v1/score", { method: "POST", body, signal, headers: { "X-Relevance-Model": role } })),
      );
      if (!signal.aborted) this.show(body, answers);
    } catch (error) {
      if (error.name !== "AbortError") this.fail(error.message);
    } finally {
      if (!signal.aborted) this.element.removeAttribute("aria-busy");
    }
  }

  fail(message) {
    this.results = [];
    this.about.textContent = "";
    fill(this.list, h("li", { class: "notice bad", role: "alert" }, message));
    fill(this.foot);
  }

  show(body, [active, challenger]) {
    const [[language, threshold]] = Object.entries(active.data.thresholds);
    const cut = new Set(active.data.truncated);
    const best = `${active.data.model.name} ${active.data.model.version}`;
    this.about.textContent = `${best} · threshold ${short(threshold)}, language ${languageName(language)}`;
    const limit = (answer) => Object.values(answer.data.thresholds)[0];
    this.results = body.candidates.map((candidate, place) => {
      const rival = challenger && { ...challenger.data.scores[place], threshold: limit(challenger) };
      return new Result(body, candidate, { ...active.data.scores[place], threshold, cut: cut.has(place) }, rival);
    });
    this.arrange();
    fill(this.foot, timing(active, cut.size, this.active?.max_length));
  }

  arrange() {
    const order = [...(this.results ?? [])];
    if (this.sorted) order.sort((a, b) => b.scored.score - a.scored.score);
    fill(this.list, ...order.map((result) => result.element));
  }
}
