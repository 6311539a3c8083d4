// Starts the page: shows the view that the address names, the key dialog and the theme button.

import { fill, h } from "./dom.js";
import { config, key, readConfig } from "./http.js";
import { readAddress } from "./address.js";
import * as live from "./live.js";
import * as models from "./models.js";
import * as playground from "./playground.js";

const VIEWS = { playground, live, models };
const ON_ADMIN = ["live", "models"]; // the admin interface scores nothing
const main = document.getElementById("main");
let leave = () => {};
let shown = null;

function show() {
  const { view, state } = readAddress();
  const known = config.admin ? ON_ADMIN : Object.keys(VIEWS);
  const name = known.includes(view) ? view : config.admin ? "models" : "playground";
  if (name === shown?.name && state.toString() === shown.state) return;
  leave();
  shown = { name, state: state.toString() };
  for (const link of document.querySelectorAll("#views a")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${name[0].toUpperCase()}${name.slice(1)} · relevance`;
  const place = h("div", { class: `view ${name}` });
  fill(main, place);
  leave = VIEWS[name].show(place, state, (text) => {
    shown.state = text; // the view itself changed the address
  });
}

function followTheme() {
  const button = document.getElementById("theme-button");
  const label = () => {
    const names = { system: "◐", light: "☀", dark: "☾" };
    button.textContent = names[window.relevanceTheme.choice];
    button.setAttribute("aria-label", `Colours: ${window.relevanceTheme.choice}`);
    button.title = `Colours: ${window.relevanceTheme.choice}`;
  };
  button.addEventListener("click", () => {
    window.relevanceTheme.next();
    label();
  });
  label();
}

function followKey() {
  const dialog = document.getElementById("key-dialog");
  const input = document.getElementById("key-input");
  const button = document.getElementById("key-button");
  const label = () => {
    button.textContent = key.value ? "API key ✓" : "API key";
  };
  const open = (why) => {
    if (dialog.open) return;
    if (why)
      document.getElementById("key-reason").textContent = `${why} It stays in this tab and is forgotten with it.`;
    input.value = "";
    dialog.showModal();
  };
  button.hidden = !Object.values(config.keys).some(Boolean);
  button.addEventListener("click", () => open());
  document.addEventListener("key-needed", (event) => open(event.detail));
  document.addEventListener("key", label);
  document.getElementById("key-cancel").addEventListener("click", () => dialog.close());
  document.getElementById("key-forget").addEventListener("click", () => {
    key.value = null;
    dialog.close();
  });
  document.getElementById("key-form").addEventListener("submit", () => {
    if (!input.value.trim()) return;
    key.value = input.value.trim();
    shown = null; // with the key the view may show more
    show();
  });
  label();
}

async function start() {
  followTheme();
  try {
    await readConfig();
  } catch {
    fill(main, h("p", { class: "notice bad" }, "The service cannot be reached. Reload the page later."));
    return;
  }
  followKey();
  for (const link of document.querySelectorAll("#views a")) {
    link.hidden = config.admin && !ON_ADMIN.includes(link.dataset.view);
  }
  addEventListener("hashchange", show);
  show();
}

start();
