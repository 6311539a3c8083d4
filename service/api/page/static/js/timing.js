// What scoring took: tokens, pairs that were cut, and the parts of the time as the header Server-Timing has them.

import { h, short } from "./dom.js";

export const PARTS = { queue: "queue", tokenize: "tokenise", run: "model", serialize: "serialise" };

/** Return milliseconds by part, as `{queue: 0.1, ..., total: 3.2}`. */
export function parseTiming(header) {
  const found = {};
  for (const [, name, value] of (header ?? "").matchAll(/([\w-]+);dur=([\d.]+)/g)) found[name] = Number(value);
  return found;
}

/** Return the line below the results of an answer. */
export function timing({ data, headers, milliseconds }, cut, longest) {
  const found = parseTiming(headers.get("server-timing"));
  const { pairs, tokens } = data.usage;
  const counted = `${pairs} pair${pairs === 1 ? "" : "s"}, ${short(tokens)} tokens`;
  const limit = longest ? ` to ${longest} tokens` : "";
  const facts = [
    counted,
    cut ? `${cut} cut${limit}` : "none cut",
    `${short(found.total ?? milliseconds)} ms in the service`,
  ];
  facts.push(`${short(milliseconds)} ms with the network`);
  return h("div", {}, h("p", { class: "muted small" }, facts.join(" · ")), found.total ? strip(found) : null);
}

function strip(found) {
  const known = Object.keys(PARTS).filter((part) => part in found);
  const other = Math.max(0, found.total - known.reduce((sum, part) => sum + found[part], 0));
  const parts = [...known.map((part) => [part, PARTS[part], found[part]]), ["other", "other", other]];
  return h(
    "div",
    { class: "timing" },
    h(
      "div",
      { class: "strip", "aria-hidden": "true" },
      parts.map(([part, , value]) => h("span", { class: `part ${part}`, style: { "flex-grow": String(value) } })),
    ),
    h(
      "ul",
      { class: "legend" },
      parts.map(([part, name, value]) =>
        h("li", {}, h("span", { class: `dot ${part}` }), `${name} ${short(value, 2)} ms`),
      ),
    ),
  );
}
