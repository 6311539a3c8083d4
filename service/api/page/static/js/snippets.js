// The requests of the playground as commands and code to copy.

import { copy, h } from "./dom.js";

const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** Return the curl command of a request. */
export function curl(body, base, withKey) {
  const lines = [`curl -s ${base}v1/score`, `-H 'Content-Type: application/json'`];
  if (withKey) lines.push(`-H "Authorization: Bearer $RELEVANCE_KEY"`);
  lines.push(`-d ${shell(JSON.stringify(body))}`);
  return lines.join(" \\\n  ");
}

/** Return Python code that sends a request with the project's client. */
export function python(body, base, withKey) {
  const key = withKey ? `, api_key=os.environ["RELEVANCE_KEY"]` : "";
  const given = [body.task, body.query].map((each) => JSON.stringify(each));
  const language = body.language ? `, ${JSON.stringify(body.language)}` : "";
  const candidates = body.candidates.map((each) => `    ${JSON.stringify(each)},`);
  return [
    ...(withKey ? ["import os", ""] : []),
    "from relevance.client import Client",
    "",
    "candidates = [",
    ...candidates,
    "]",
    `with Client(${JSON.stringify(base.replace(/\/$/, ""))}${key}) as client:`,
    `    result = client.score(${given.join(", ")}, candidates${language})`,
    "    for place in result.best_first:",
    "        print(result.scores[place], result.labels[place], candidates[place])",
  ].join("\n");
}

/** Return the part of the page with the code of some requests. */
export function snippets(bodies, withKey) {
  const base = new URL(".", location.href.split("#")[0]).href;
  const blocks = bodies.flatMap((body) => [
    block(`curl, ${body.task}`, curl(body, base, withKey)),
    block(`Python, ${body.task}`, python(body, base, withKey)),
  ]);
  return h(
    "details",
    { class: "card code" },
    h("summary", {}, "The same from code"),
    h("div", { class: "blocks" }, blocks),
  );
}

function block(name, text) {
  return h(
    "div",
    {},
    h(
      "div",
      { class: "head" },
      h("h3", {}, name),
      h("button", { type: "button", class: "quiet small", on: { click: () => copy(text, "Code") } }, "Copy"),
    ),
    h("pre", { tabindex: "0", "aria-label": name }, h("code", {}, text)),
  );
}
