// The part of the address behind `#`: the view and its state, so that a copied address shows the same again.

/** Return the view that the address names and its state, as URLSearchParams. */
export function readAddress(hash = location.hash) {
  const [view, query = ""] = hash.replace(/^#\/?/, "").split("?");
  return { view: view || "playground", state: new URLSearchParams(query) };
}

/** Write a state into the address without a new entry in the history; empty values are left out. Returns its text. */
export function writeAddress(view, values) {
  const state = new URLSearchParams(Object.entries(values).filter(([, value]) => value !== "" && value !== null));
  const text = state.toString();
  history.replaceState(null, "", `#/${view}${text && `?${text}`}`);
  return text;
}
