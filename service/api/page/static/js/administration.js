// Changes the models of a task: load a bundle, promote, drop and roll back, each asked back once.

import { h, toast } from "./dom.js";
import { call } from "./http.js";

const MODES = {
  switch: "Serve it to everybody",
  canary: "Canary: answers a share",
  shadow: "Shadow: scores a share, answers nobody",
};

export class Administration {
  /** `state` is what the admin interface says of the task; `changed` shows everything anew. */
  constructor(task, state, changed) {
    this.task = task;
    this.state = state;
    this.changed = changed;
    this.message = h("p", { class: "notice bad", role: "alert", hidden: true });
    this.element = h(
      "section",
      { class: "card admin", "aria-labelledby": "admin-title" },
      h("h2", { id: "admin-title" }, `Change ${task.toUpperCase()}`),
      this.roles(),
      this.message,
      this.form(),
    );
  }

  roles() {
    const { active, previous, challenger, change, refusal } = this.state;
    const named = (model) => `${model.name} ${model.version}`;
    const act = (name, why, path, method = "POST") =>
      h("button", { type: "button", class: "quiet small", on: { click: () => this.send(why, path, method) } }, name);
    const rows = [
      ["Active", active && `${named(active)}, from ${active.bundle}, ${active.in_work} requests in progress`],
      [
        "Previous",
        previous && named(previous),
        previous && act("Roll back", `Roll back to ${named(previous)}?`, "/rollback"),
      ],
      [
        "Challenger",
        challenger && `${named(challenger.model)}, ${challenger.mode} with share ${challenger.share}`,
        challenger && act("Promote", `Serve ${named(challenger.model)} to everybody?`, "/promote"),
        challenger && act("Drop", `Unload ${named(challenger.model)}?`, "/challenger", "DELETE"),
      ],
      ["In progress", change],
      ["Last refusal", refusal && `${refusal.bundle}: ${refusal.detail}`],
    ];
    return h(
      "dl",
      { class: "roles" },
      rows.map(([name, text, ...buttons]) => text && h("div", {}, h("dt", {}, name), h("dd", {}, text, ...buttons))),
    );
  }

  form() {
    const bundle = h("input", {
      id: "bundle",
      placeholder: "folder of the bundle",
      spellcheck: "false",
      required: true,
    });
    const share = h("input", { id: "share", type: "number", min: 0, max: 1, step: "any", value: "0.1" });
    const narrow = h(
      "div",
      { class: "field narrow", hidden: true },
      h("label", { for: "share" }, "Share, 0 to 1"),
      share,
    );
    const mode = h(
      "select",
      { id: "mode", on: { change: () => (narrow.hidden = mode.value === "switch") } },
      Object.entries(MODES).map(([value, name]) => h("option", { value }, name)),
    );
    const submit = (event) => {
      event.preventDefault();
      const body = { bundle: bundle.value.trim(), mode: mode.value };
      if (mode.value !== "switch") body.share = Number(share.value);
      this.send(`Load ${body.bundle}? ${MODES[mode.value]}.`, "", "POST", body);
    };
    return h(
      "form",
      { class: "row", on: { submit } },
      h("div", { class: "field" }, h("label", { for: "bundle" }, "Load a bundle"), bundle),
      h("div", { class: "field" }, h("label", { for: "mode" }, "and"), mode),
      narrow,
      h("button", { type: "submit", class: "primary" }, "Load"),
    );
  }

  async send(question, path, method, body) {
    if (!(await confirmed(question))) return;
    this.message.hidden = true;
    this.element.setAttribute("aria-busy", "true");
    for (const button of this.element.querySelectorAll("button")) button.disabled = true;
    try {
      await call(`v1/admin/models/${this.task}${path}`, { scope: "admin", method, body });
      toast("Done");
      await this.changed();
    } catch (error) {
      this.message.textContent = error.message;
      this.message.hidden = false;
    } finally {
      this.element.removeAttribute("aria-busy");
      for (const button of this.element.querySelectorAll("button")) button.disabled = false;
    }
  }
}

/** Ask a question in a dialog, and return whether it was answered with yes. */
function confirmed(question) {
  return new Promise((answer) => {
    const dialog = h(
      "dialog",
      { "aria-labelledby": "question", on: { close: () => (dialog.remove(), answer(dialog.returnValue === "yes")) } },
      h(
        "form",
        { method: "dialog" },
        h("p", { id: "question" }, question),
        h(
          "div",
          { class: "row end" },
          h("button", { value: "no", class: "quiet" }, "Cancel"),
          h("button", { value: "yes", class: "primary" }, "Yes"),
        ),
      ),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}
