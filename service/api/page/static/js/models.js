// The view Models: the cards of the loaded models, their drift, and on the admin interface how to change them.

import { writeAddress } from "./address.js";
import { Administration } from "./administration.js";
import { ModelCard } from "./card.js";
import { fill, h } from "./dom.js";
import { call, config } from "./http.js";
import { parse } from "./metrics.js";

const POLL_MILLISECONDS = 15000;

/** Show the view. Returns the function that leaves it. */
export function show(place, state, written) {
  const view = new Models(place, state, written);
  view.start();
  return () => view.leave();
}

class Models {
  constructor(place, state, written) {
    this.place = place;
    this.asked = state.get("model");
    this.written = written;
    this.series = [];
  }

  async start() {
    this.place.append(h("h1", {}, "Models"), h("p", { class: "muted", role: "status" }, "Loading the models…"));
    try {
      await this.read();
    } catch (error) {
      if (!this.gone) this.place.lastChild.replaceWith(h("p", { class: "notice bad" }, error.message));
    }
  }

  leave() {
    this.gone = true;
    clearTimeout(this.timer);
    this.card?.leave();
  }

  /** Read everything anew, and show it; the model that was shown stays shown where it is still loaded. */
  async read() {
    const tasks = config.admin ? await this.changeable() : await this.served();
    if (this.gone) return;
    this.tasks = tasks;
    await this.measure();
    if (this.gone) return;
    this.build();
  }

  async served() {
    const { data } = await call("v1/models");
    return Promise.all(data.models.map(async ({ task }) => (await call(`v1/models/${task}`)).data));
  }

  async changeable() {
    const { data } = await call("v1/admin/models", { scope: "admin" });
    const cards = ({ task }) => call(`v1/admin/models/${task}`, { scope: "admin" });
    return Promise.all(data.models.map(async (state) => ({ ...(await cards(state)).data, state })));
  }

  /** Read the metrics, for drift; without the key for them there is none. */
  async measure() {
    clearTimeout(this.timer);
    try {
      this.series = parse((await call("metrics", { scope: "metrics" })).data);
      this.card?.measure(this.series);
    } catch (error) {
      if (![401, 403].includes(error.status)) throw error;
      return;
    }
    this.timer = setTimeout(() => this.measure().catch(() => {}), POLL_MILLISECONDS);
  }

  build() {
    const all = this.tasks.flatMap(({ task, models, state }) => models.map((model) => ({ task, model, state })));
    const id = ({ task, model }) => `${task}-${model.version}-${model.role}`;
    const chosen = all.find((each) => id(each) === this.asked) ?? all[0];
    if (!chosen) {
      this.place.lastChild.replaceWith(
        h("p", { class: "notice" }, "No model is loaded yet. Reload the page in a moment."),
      );
      return;
    }
    this.asked = id(chosen);
    const choose = (each) => {
      this.asked = id(each);
      this.written(writeAddress("models", { model: this.asked }));
      this.build();
    };
    const button = (each) =>
      h(
        "button",
        { type: "button", "aria-pressed": String(each === chosen), on: { click: () => choose(each) } },
        `${each.task.toUpperCase()} ${each.model.role}`,
      );
    this.card?.leave();
    this.card = new ModelCard(chosen.task, chosen.model);
    this.card.measure(this.series);
    fill(
      this.place,
      h(
        "div",
        { class: "toolbar" },
        h("h1", {}, "Models"),
        h("div", { class: "segmented wrap", role: "group", "aria-label": "Model" }, all.map(button)),
      ),
      this.administration(chosen),
      this.card.element,
    );
  }

  administration({ task, state }) {
    if (state) return new Administration(task, state, () => this.read()).element;
    const hint =
      "Models are switched, tried out and rolled back on the page of the admin interface (setting admin_port).";
    return h("p", { class: "muted small" }, hint);
  }
}
