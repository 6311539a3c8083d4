// One model: what it is, how good it was and on which rows, how it labels, and how its scores drift.

import { fill, h, languageName, named, short } from "./dom.js";
import { LanguageTable } from "./languages.js";
import { Plots } from "./plots.js";
import { reportsOf } from "./reports.js";

const NOTHING_CHANGED = 0.1; // of the population stability index, by convention (docs/serving.md)
const MUCH_CHANGED = 0.25;

export class ModelCard {
  constructor(task, model) {
    this.task = task;
    this.model = model;
    this.isActive = model.role === "active";
    this.drift = h("div", { class: "card", hidden: true });
    this.plots = new Plots(task, model);
    this.table = new LanguageTable(model);
    const measured = model.metrics ? [this.figures(), this.table.element] : [this.unmeasured()];
    this.element = h("div", { class: "model" }, this.about(), ...measured, this.plots.element, reportsOf(task, model), this.drift);
  }

  leave() {
    this.plots.leave();
  }

  /** Show drift and live scores; metrics describe the active model only. */
  measure(series) {
    if (!this.isActive || !series.length) return;
    const own = series.filter((each) => each.labels.task === this.task);
    const indices = own.filter((each) => each.name === "score_psi" && !Number.isNaN(each.value));
    const mix = own.find((each) => each.name === "language_mix_psi")?.value;
    fill(this.drift, ...this.drifts(indices, mix));
    this.drift.hidden = false;
    this.plots.measure(own);
  }

  about() {
    const { model } = this;
    const trial = model.mode && `${model.mode}, share ${model.share}`;
    const facts = {
      "Base model": model.base_model,
      Licence: model.license,
      Precision: `${model.precision} on ${model.device} (${model.runtime})`,
      "Reads at most": `${model.max_length} tokens a pair`,
      Made: model.created.replace("T", " ").slice(0, 16),
      "Source commit": model.source_commit.slice(0, 12),
      "Languages seen in training": named(model.seen_languages).map(languageName).join(", ") || "none",
    };
    return h(
      "section",
      { class: "card model" },
      h(
        "div",
        { class: "title" },
        h("h2", {}, model.name),
        h("span", { class: "tag" }, model.version),
        h("span", { class: "tag accent" }, model.role),
        !model.fine_tuned && h("span", { class: "tag warn" }, "untuned"),
        trial && h("span", { class: "tag" }, trial),
      ),
      h(
        "dl",
        { class: "facts" },
        Object.entries(facts).map(([name, text]) =>
          h("div", { class: text.length > 40 && "wide" }, h("dt", {}, name), h("dd", {}, text)),
        ),
      ),
      model.findings.length > 0 &&
        h(
          "ul",
          { class: "findings" },
          model.findings.map((text) => h("li", { class: "notice warn" }, text)),
        ),
    );
  }

  unmeasured() {
    return h("p", { class: "notice" }, "This bundle has no metrics: it was made without dev rows.");
  }

  figures() {
    const { metrics, metrics_on, cosine_auc } = this.model;
    const parts = [
      ["All rows", metrics.all],
      // where all languages are seen, or none, this is what all rows say
      ...(metrics.seen && metrics.unseen
        ? [
            ["Seen languages", metrics.seen],
            ["Unseen languages", metrics.unseen],
          ]
        : []),
    ];
    const ranking = metrics.ranking?.all.ndcg_at_10;
    const tiles = [
      ...parts
        .filter(([, slice]) => slice)
        .map(([name, slice]) => [`AUC, ${name.toLowerCase()}`, slice.auc, `${short(slice.rows)} rows`]),
      ["F1", metrics.all.f1, `always yes ${metrics.all.always_yes_f1.value?.toFixed(3) ?? "–"}`],
      ...(ranking?.value != null ? [["nDCG@10", ranking, `${short(metrics.ranking.all.queries)} queries`]] : []),
      ...(cosine_auc !== null ? [["AUC of the cosine", { value: cosine_auc }, "base model"]] : []),
    ];
    return h(
      "section",
      { class: "model" },
      h(
        "dl",
        { class: "tiles" },
        tiles.map(([name, interval, note]) => tile(name, interval, note)),
      ),
      h(
        "p",
        { class: "muted small" },
        `Measured on ${metrics_on}. In brackets: 95 % bootstrap intervals over whole queries.`,
      ),
    );
  }

  drifts(indices, mix) {
    const named = (language) => (language === "all" ? "all languages" : languageName(language));
    const found = indices.map(({ labels, value }) => [`Scores, ${named(labels.language)}`, value]);
    if (mix !== undefined && !Number.isNaN(mix)) found.push(["Mix of languages", mix]);
    const waiting = "Not enough live scores yet to compare with those of the dev rows (setting drift_min_scores).";
    return [
      h("h2", {}, "Drift"),
      found.length
        ? h(
            "ul",
            { class: "drifts" },
            found.map(([name, value]) => h("li", {}, name, " ", h("b", {}, short(value, 2)), " ", verdict(value))),
          )
        : h("p", { class: "muted" }, waiting),
      h("p", { class: "muted small" }, "Population stability index of recent scores against those of the dev rows."),
    ];
  }
}

function tile(name, { value, low, high }, note) {
  const range = low != null ? `[${low.toFixed(3)}, ${high.toFixed(3)}] · ` : "";
  const shown = value == null ? "–" : value.toFixed(3);
  return h(
    "div",
    { class: "card tile" },
    h("dt", {}, name),
    h("dd", {}, shown),
    h("dd", { class: "note" }, range, note),
  );
}

function verdict(index) {
  if (index < NOTHING_CHANGED) return h("span", { class: "tag" }, "steady");
  return index < MUCH_CHANGED
    ? h("span", { class: "tag accent" }, "changed")
    : h("span", { class: "tag warn" }, "much changed");
}
