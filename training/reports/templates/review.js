"use strict";
const rows = [...document.querySelectorAll(".row")];
const byId = new Map(rows.map((row) => [row.dataset.id, row]));
const filters = [...document.querySelectorAll("[data-filter]")];
const part = (id) => document.getElementById(id);
const key = "relevance review " + document.title + " " + document.documentElement.dataset.review;
const choices = {k: "keep", f: "flip", d: "drop"};
const past = [];
let kept = true, current = null;
let state = {annotator: "1", decisions: {}};  // decisions: by annotator, then by id

const own = () => (state.decisions[state.annotator] ??= Object.create(null));
const others = (id) => Object.entries(state.decisions)
  .filter(([name, made]) => name !== state.annotator && made[id]).map(([name, made]) => [name, made[id]]);
const differs = (id) => own()[id] && others(id).some(([, choice]) => choice !== own()[id]);
const remember = () => {
  try { localStorage.setItem(key, JSON.stringify(state)); kept = true; } catch { kept = false; }
};
const recall = () => {
  try {
    const found = JSON.parse(localStorage.getItem(key) || "null");
    if (found && found.decisions) {
      state.annotator = found.annotator;
      for (const [name, made] of Object.entries(found.decisions)) {
        state.decisions[name] = Object.assign(Object.create(null), made);
      }
    }
  } catch { kept = false; }
};

const fits = (row) => filters.every((filter) => {
  const wanted = filter.value, id = row.dataset.id;
  if (!wanted) return true;
  if (filter.dataset.filter !== "state") return row.dataset[filter.dataset.filter] === wanted;
  return wanted === "differ" ? differs(id) : (wanted === "decided") === Boolean(own()[id]);
});
const visible = () => rows.filter((row) => !row.hidden);

const paint = (row) => {
  const choice = own()[row.dataset.id] || "";
  row.dataset.decision = choice;
  row.querySelector(".decision").textContent = choice ? ", " + choice : "";
  // Blind: what others decided shows only after one's own decision.
  const said = choice ? others(row.dataset.id).filter(([, other]) => other !== choice) : [];
  row.querySelector(".other").textContent = said.map(([name, other]) => "annotator " + name + ": " + other).join(", ");
  for (const button of row.querySelectorAll("[data-choice]")) {
    button.setAttribute("aria-pressed", String(button.dataset.choice === choice));
  }
};
const show = () => {
  const made = rows.filter((row) => own()[row.dataset.id]).length;
  const apart = rows.filter((row) => differs(row.dataset.id)).length;
  const where = kept ? ", kept in this browser" : ", NOT kept in this browser: save before you close the page";
  part("progress").value = made;
  part("count").textContent = made + " of " + rows.length + " decided" + where + (apart ? "; annotators differ on " + apart : "");
  part("undo").disabled = !past.length;
  part("none").hidden = Boolean(visible().length);
};
const refresh = () => {
  for (const row of rows) { paint(row); row.hidden = !fits(row); }
  if (!current || current.hidden) select(visible()[0] || null, false);
  show();
};

const select = (row, focus = true) => {
  if (current) { current.classList.remove("current"); current.tabIndex = -1; }
  current = row;
  if (!row) return;
  row.classList.add("current");
  row.tabIndex = 0;
  if (focus) { row.focus({preventScroll: true}); row.scrollIntoView({block: "nearest"}); }
};
const move = (step) => {
  const shown = visible(), at = shown.indexOf(current);
  select(shown[Math.min(Math.max(at + step, 0), shown.length - 1)] || null);
};
const next = (after) => {
  const shown = visible(), at = rows.indexOf(after);
  const open = shown.filter((row) => !own()[row.dataset.id]);
  select(open.find((row) => rows.indexOf(row) > at) || open[0] || shown.find((row) => rows.indexOf(row) >= at) || null);
};

const decide = (row, choice) => {
  const id = row.dataset.id, before = own()[id] || "";
  past.push({annotator: state.annotator, id, before});
  own()[id] = before === choice ? "" : choice;  // the same key again takes the decision back
  remember();
  paint(row);
  show();
  if (own()[id]) next(row);
};
const undo = () => {
  const last = past.pop();
  if (!last) return;
  if (last.annotator !== state.annotator) { state.annotator = part("annotator").value = last.annotator; }
  own()[last.id] = last.before;
  remember();
  const row = byId.get(last.id);
  for (const filter of filters) if (!fits(row)) filter.value = "";
  refresh();
  select(row);
};

const quoted = (text) => '"' + text.replaceAll('"', '""') + '"';
const table = () => {
  const lines = ["id,label,suggestion,decision,annotator"];
  const named = Object.keys(state.decisions).filter((name) => Object.values(state.decisions[name]).some(Boolean));
  for (const name of named.length ? named : [state.annotator]) {
    for (const {dataset: row} of rows) {
      const fields = [row.id, row.label, row.suggestion, (state.decisions[name] || {})[row.id] || "", name];
      lines.push(fields.map(quoted).join(","));
    }
  }
  return "\ufeff" + lines.join("\r\n") + "\r\n";
};
const save = () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([table()], {type: "text/csv"}));
  link.download = "decisions.csv";
  link.click();
  URL.revokeObjectURL(link.href);
};

const parsed = (text) => {
  const found = [[""]];
  let inside = false;
  for (let at = text.startsWith("\ufeff") ? 1 : 0; at < text.length; at++) {
    const line = found[found.length - 1], letter = text[at];
    if (inside && letter === '"' && text[at + 1] === '"') { line[line.length - 1] += '"'; at++; }
    else if (letter === '"') inside = !inside;
    else if (!inside && letter === ",") line.push("");
    else if (!inside && letter === "\n") found.push([""]);
    else if (inside || letter !== "\r") line[line.length - 1] += letter;
  }
  return found;
};
const compare = async (file) => {
  const [head, ...lines] = parsed(await file.text());
  const column = Object.fromEntries(["id", "decision", "annotator"].map((name) => [name, head.indexOf(name)]));
  if (column.id < 0 || column.decision < 0) {
    part("count").textContent = file.name + ": no columns id and decision; expected a CSV that this page saved";
    return;
  }
  let taken = 0;
  for (const line of lines) {
    const id = line[column.id], choice = line[column.decision], name = line[column.annotator] || file.name;
    if (!byId.has(id) || !Object.values(choices).includes(choice) || (name === state.annotator && own()[id])) continue;
    (state.decisions[name] ??= Object.create(null))[id] = choice;
    taken++;
  }
  remember();
  refresh();
  if (!taken) part("count").textContent = file.name + ": no decision on these rows that is not here already";
};

document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, textarea") || event.altKey || event.metaKey) return;
  const pressed = event.key.toLowerCase();
  if (event.ctrlKey && pressed !== "z") return;
  const act = {u: undo, z: event.ctrlKey && undo, n: () => next(current), arrowdown: () => move(1), arrowup: () => move(-1)}[pressed];
  if (choices[pressed] && current && !event.repeat) decide(current, choices[pressed]);
  else if (act) act();
  else return;
  event.preventDefault();
});
part("rows").addEventListener("click", (event) => {
  const row = event.target.closest(".row"), button = event.target.closest("[data-choice]");
  if (row !== current) select(row, !button);
  if (button) decide(row, button.dataset.choice);
});
for (const filter of filters) filter.addEventListener("change", refresh);
part("annotator").addEventListener("change", (event) => {
  state.annotator = event.target.value = event.target.value.trim() || "1";
  remember();
  refresh();
});
part("undo").addEventListener("click", undo);
part("save").addEventListener("click", save);
part("load").addEventListener("change", (event) => { if (event.target.files[0]) compare(event.target.files[0]); event.target.value = ""; });
recall();
part("annotator").value = state.annotator;
refresh();
