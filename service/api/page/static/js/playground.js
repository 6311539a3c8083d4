// The view Playground: one query, candidates of each task, scores side by side.

import { writeAddress } from "./address.js";
import { copy, fill, h, languageName, named, toast } from "./dom.js";
import { call, config, key, readConfig } from "./http.js";
import { Panel } from "./panel.js";
import { snippets } from "./snippets.js";

const LOADING_MILLISECONDS = 2000;
const LONGEST_ADDRESS = 16000; // longer ones are cut by chat programs and proxies

/** Show the view. Returns the function that leaves it. `written` gets the state that the view writes to the address. */
export function show(place, state, written) {
  const view = new Playground(place, state, written);
  view.start();
  return () => view.leave();
}

class Playground {
  constructor(place, state, written) {
    this.place = place;
    this.state = state;
    this.written = written;
    this.panels = [];
    this.waiting = h("p", { class: "notice", role: "status", hidden: true }, "Another model is being loaded…");
    this.gone = false;
  }

  async start() {
    this.place.append(h("p", { class: "muted", role: "status" }, "Loading the models…"));
    try {
      this.samples = await (await fetch("page/sample.json")).json();
      await this.follow();
    } catch (error) {
      if (!this.gone) fill(this.place, h("p", { class: "notice bad" }, error.message));
    }
  }

  leave() {
    this.gone = true;
    for (const panel of this.panels) panel.leave();
  }

  /**
   * Show the models that are loaded, and look again while others are being loaded, or while an untuned one answers,
   * whose place a fine-tuned one may take.
   */
  async follow() {
    await readConfig(); // before the list: a model that is loaded in between is in the list
    const tasks = await this.loaded();
    if (this.gone) return;
    if (tasks.length > this.panels.length) {
      if (this.panels.length) this.keep();
      this.build(tasks);
      await this.score();
    } else {
      await this.renew(tasks);
    }
    this.waiting.hidden = !config.loading;
    if (!config.loading && !this.panels.some((panel) => panel.isUntuned)) return;
    await new Promise((done) => setTimeout(done, LOADING_MILLISECONDS));
    if (!this.gone) await this.follow();
  }

  /** Score again where another model is active than before; what people have typed stays. */
  async renew(tasks) {
    const found = (panel) => tasks.find(({ task }) => task === panel.task);
    const changed = this.panels.filter((panel) => found(panel) && panel.take(found(panel).models));
    if (!changed.length) return;
    toast("Another model answers from now on");
    if (this.query.value.trim()) await this.score();
  }

  /** Keep what people have typed; what the address says of tasks that were not loaded yet stays. */
  keep() {
    this.state.set("q", this.query.value);
    this.state.set("l", this.language.value);
    for (const panel of this.panels) this.state.set(panel.task, panel.text);
  }

  /** Return the models of each task that has some. */
  async loaded() {
    const { data } = await call("v1/models");
    return Promise.all(data.models.map(async ({ task }) => (await call(`v1/models/${task}`)).data));
  }

  build(tasks) {
    const [first] = this.samples;
    const given = this.state.get("q") !== null;
    const query = this.state.get("q") ?? first.query;
    const language = given ? (this.state.get("l") ?? "") : first.language;
    const sample = this.samples.find((each) => each.query === query) ?? first;
    this.panels = tasks.map(
      (models) => new Panel(models, this.state.get(models.task) ?? offered(sample, models.task), () => this.score()),
    );
    this.query = h("input", {
      id: "query",
      class: "query",
      value: query,
      dir: "auto",
      autocomplete: "off",
      enterkeyhint: "search",
    });
    this.language = h("select", { id: "language" }, this.languages(tasks, language));
    this.shown = this.state.get("show") ?? "all";
    this.snippets = h("div");
    fill(
      this.place,
      h("h1", { class: "unseen" }, "Playground"),
      this.form(),
      this.chips(),
      this.switcher(),
      this.waiting,
      h(
        "div",
        { class: "panels", data: { count: this.panels.length } },
        this.panels.map((panel) => panel.element),
      ),
      this.snippets,
    );
    this.choose(this.shown);
  }

  languages(tasks, chosen) {
    const known = new Set(this.samples.map((sample) => sample.language));
    for (const { models } of tasks)
      for (const model of models) for (const code of named(model.seen_languages)) known.add(code);
    if (chosen) known.add(chosen);
    const choices = [...known].map((code) => [code, languageName(code)]).sort((a, b) => a[1].localeCompare(b[1]));
    return [["", "not given"], ...choices].map(([code, name]) =>
      h("option", { value: code, selected: code === chosen }, name),
    );
  }

  form() {
    const submit = (event) => {
      event.preventDefault();
      this.score();
    };
    return h(
      "form",
      { class: "card ask", on: { submit }, role: "search" },
      h("div", { class: "field grow" }, h("label", { for: "query" }, "Search query, in any language"), this.query),
      h("div", { class: "field" }, h("label", { for: "language" }, "Language"), this.language),
      h("button", { type: "submit", class: "primary" }, "Score"),
      h("button", { type: "button", class: "quiet", on: { click: () => this.share() } }, "Copy link"),
    );
  }

  chips() {
    const use = (sample) => {
      this.query.value = sample.query;
      this.language.value = sample.language;
      for (const panel of this.panels) panel.text = offered(sample, panel.task);
      this.score();
    };
    return h(
      "div",
      { class: "chips", role: "group", "aria-label": "Queries of the sample shop" },
      h("span", { class: "muted" }, "Sample shop:"),
      this.samples.map((sample) =>
        h(
          "button",
          {
            type: "button",
            class: "chip",
            lang: sample.language,
            title: languageName(sample.language),
            on: { click: () => use(sample) },
          },
          sample.query,
        ),
      ),
    );
  }

  /** Where two tasks are loaded: which of them are shown. */
  switcher() {
    if (this.panels.length < 2) return null;
    const choices = [["all", "Side by side"], ...this.panels.map((panel) => [panel.task, panel.name])];
    this.choices = choices.map(([value, name]) =>
      h("button", { type: "button", data: { value }, on: { click: () => (this.choose(value), this.score()) } }, name),
    );
    return h("div", { class: "segmented", role: "group", "aria-label": "Tasks shown" }, this.choices);
  }

  choose(value) {
    const known = ["all", ...this.panels.map((panel) => panel.task)];
    this.shown = known.includes(value) ? value : "all";
    for (const button of this.choices ?? []) button.setAttribute("aria-pressed", button.dataset.value === this.shown);
    for (const panel of this.panels) panel.element.hidden = this.shown !== "all" && panel.task !== this.shown;
  }

  async score() {
    if (!this.query.value.trim()) {
      toast("Type a query first");
      this.query.focus();
      return;
    }
    this.remember();
    const visible = this.panels.filter((panel) => !panel.element.hidden);
    const request = { query: this.query.value, language: this.language.value };
    fill(
      this.snippets,
      snippets(
        visible.map((panel) => panel.body(request)),
        config.keys.score || key.value,
      ),
    );
    await Promise.all(visible.map((panel) => panel.score(request)));
  }

  remember() {
    const values = { q: this.query.value, l: this.language.value, show: this.shown === "all" ? "" : this.shown };
    for (const panel of this.panels) values[panel.task] = panel.text;
    const sample = this.samples.find((each) => each.query === values.q);
    for (const { task, text } of this.panels) if (sample && offered(sample, task) === text) values[task] = "";
    if (new URLSearchParams(values).toString().length > LONGEST_ADDRESS)
      for (const panel of this.panels) values[panel.task] = "";
    this.written(writeAddress("playground", values));
  }

  share() {
    this.remember();
    copy(location.href, "Link");
  }
}

/** Return the sample's candidates of a task, one a line; item titles for a task that the sample does not know. */
function offered(sample, task) {
  return (sample[task] ?? sample.qi).join("\n");
}
