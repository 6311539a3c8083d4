// Makes elements. Text is always text: nothing here or elsewhere on the page parses HTML.

/** Return an element. `props`: `class`, `on` (listeners by event), `data`, `style` (custom properties), attributes. */
export function h(tag, props = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") made.className = value;
    else if (name === "on") for (const [event, listen] of Object.entries(value)) made.addEventListener(event, listen);
    else if (name === "data") Object.assign(made.dataset, value);
    else if (name === "style") for (const [key, each] of Object.entries(value)) made.style.setProperty(key, each);
    else if (name === "value" || name === "checked" || name === "selected") made[name] = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  fill(made, ...children);
  return made;
}

/** Put children into an element in place of those that it has; lists are flattened, null, undefined and false left out. */
export function fill(place, ...children) {
  place.replaceChildren(...children.flat(Infinity).filter((child) => child != null && child !== false));
}

/** Show a short message for some seconds; screen readers say it. */
export function toast(text) {
  const place = document.getElementById("toast");
  place.textContent = text;
  place.classList.add("shown");
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => place.classList.remove("shown"), 2500);
}

/** Copy a text to the clipboard, and say so. */
export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    toast(`${what} copied`);
  } catch {
    toast(`The browser did not allow copying the ${what.toLowerCase()}`);
  }
}

/** Return a number with a sensible count of digits. */
export function short(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1000) return Intl.NumberFormat("en", { maximumFractionDigits: 0 }).format(value);
  return Number(value.toPrecision(digits)).toString();
}

/** Return the title of a report by its file's name: `test-set.html` is "Test set". */
export function reportTitle(name) {
  const text = name.replace(/\.html$/, "").replaceAll(/[-_.]+/g, " ").trim();
  return text[0].toUpperCase() + text.slice(1);
}

/** Return the codes that name a language: rows without one have the code `unk`. */
export function named(codes) {
  return codes.filter((code) => code !== "unk");
}

/** Return the English name of a language code, with the code itself where there is no name. */
export function languageName(code) {
  if (!code || code === "unk") return "not given";
  try {
    return new Intl.DisplayNames("en", { type: "language" }).of(code);
  } catch {
    return code;
  }
}
