// The reports of a model, of a cascade also those of its two models: links where the service sends them, else why not.

import { h, reportTitle } from "./dom.js";
import { config } from "./http.js";

const ABOUT = "Pages that were in the checkpoint when this bundle was exported. They show rows.";
const OFF =
  "This service does not send them: they show rows of the data, and no API keys are set. Set RELEVANCE_API_KEYS and use a " +
  "key of scope admin, or RELEVANCE_OPEN_REPORTS=true where everybody who reaches the service may read them. The files " +
  "are in the bundle's folder reports.";

/** Return the section of a model's card; false where there are no reports. */
export function reportsOf(task, model) {
  const { cascade, stage_reports } = model;
  const own = { title: null, version: model.version, names: model.reports };
  const stages = Object.entries(stage_reports).map(([stage, names]) => ({
    title: `${stage === "small" ? "Small" : "Large"} model: ${cascade.names[stage]} ${cascade.versions[stage]}`,
    version: cascade.versions[stage],
    names,
  }));
  const groups = [own, ...stages].filter(({ names }) => names.length);
  return (
    groups.length > 0 &&
    h(
      "section",
      { class: "card", "aria-labelledby": "reports-title" },
      h("h2", { id: "reports-title" }, "Reports"),
      groups.map((each) => [each.title && h("h3", {}, each.title), list(task, each)]),
      config.reports ? h("p", { class: "muted small" }, ABOUT) : h("p", { class: "notice" }, OFF),
    )
  );
}

/** The names of the pages. Links open in this tab, which has the key. */
function list(task, { version, names }) {
  const shown = (name) =>
    config.reports ? h("a", { href: `report#/${task}/${version}/${name}` }, reportTitle(name)) : reportTitle(name);
  return h(
    "ul",
    { class: "drifts" },
    names.map((name) => h("li", {}, shown(name))),
  );
}
