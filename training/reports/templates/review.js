"use strict";
const selects = [...document.querySelectorAll("select[data-id]")];
const key = "relevance review " + document.title + " " + document.documentElement.dataset.review;
let kept = true;
const remember = () => {
  const made = Object.fromEntries(selects.filter((select) => select.value).map((select) => [select.dataset.id, select.value]));
  try { localStorage.setItem(key, JSON.stringify(made)); kept = true; } catch { kept = false; }
};
const recall = () => {
  try {
    const made = new Map(Object.entries(JSON.parse(localStorage.getItem(key) || "{}")));
    for (const select of selects) select.value = made.get(select.dataset.id) || "";
  } catch { kept = false; }
};
const quoted = (text) => '"' + text.replaceAll('"', '""') + '"';
const show = () => {
  const made = selects.filter((select) => select.value).length;
  const where = kept ? ", kept in this browser" : ", NOT kept in this browser: save before you close the page";
  document.getElementById("count").textContent = made + " of " + selects.length + " decided" + where;
};
document.getElementById("save").addEventListener("click", () => {
  const lines = ["id,label,suggestion,decision"];
  for (const select of selects) {
    const fields = [select.dataset.id, select.dataset.label, select.dataset.suggestion, select.value];
    lines.push(fields.map(quoted).join(","));
  }
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(["\ufeff" + lines.join("\r\n") + "\r\n"], {type: "text/csv"}));
  link.download = "decisions.csv";
  link.click();
  URL.revokeObjectURL(link.href);
});
document.addEventListener("change", () => { remember(); show(); });
recall();
show();
