// The page around a report: fetches it with the key of this tab and shows it in a frame in which nothing runs.

import { fill, h, reportTitle } from "./dom.js";
import { call, readConfig } from "./http.js";

const main = document.getElementById("main");

async function start() {
  const [task, version, name] = named();
  const title = `${reportTitle(name)}, ${task.toUpperCase()} ${version}`;
  document.getElementById("title").textContent = title;
  document.title = `${title} · relevance`;
  await readConfig();
  const path = [task, version, name].map(encodeURIComponent).join("/");
  const { data } = await call(`page/reports/${path}`, { scope: "admin" });
  const src = URL.createObjectURL(new Blob([data], { type: "text/html;charset=utf-8" }));
  // No script runs in the frame. It keeps its origin: links within a report of an opaque one lead nowhere.
  fill(main, h("iframe", { sandbox: "allow-same-origin", src, title }));
  offer(src, `${task}-${version}-${name}`);
}

/** Return task, version and name of the report that the address names. */
function named() {
  try {
    const found = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
    if (found.length === 3) return found;
  } catch {
    // no percent-encoding
  }
  throw new Error("The address names no report: open one from Models.");
}

/** Let people keep the file. */
function offer(address, name) {
  const button = document.getElementById("save");
  button.hidden = false;
  button.addEventListener("click", () => h("a", { href: address, download: name }).click());
}

function show(error) {
  const needsKey = ["unauthorized", "forbidden"].includes(error.reason);
  const hint = needsKey ? " Give the tab such a key on Models, then open the report from there." : "";
  fill(main, h("p", { class: "notice bad", role: "alert" }, error.message + hint));
}

addEventListener("hashchange", () => location.reload());
start().catch(show);
