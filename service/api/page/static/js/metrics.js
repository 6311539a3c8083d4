// Reads the Prometheus text format, and keeps what grew between two readings: rates and percentiles come from that.

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;
const START = "process_start_time_seconds";
const STATES = new Set(["queued_tokens", "oldest_wait_seconds", "tokens_per_second", "score_psi", "language_mix_psi"]);
const PREFIX = "relevance_";
const KEPT_SECONDS = 15 * 60;

export const ANY = Symbol("any value of a label");
export const PRESENT = Symbol("any value of a label that is not empty");

/** Return the series of a scrape: `[{name, labels, value}]`, names without `relevance_`. */
export function parse(text) {
  const series = [];
  for (const line of text.split("\n")) {
    if (!line.startsWith(PREFIX) && !line.startsWith(START)) continue;
    const found = LINE.exec(line);
    if (!found) continue;
    const labels = Object.fromEntries(
      [...(found[2] ?? "").matchAll(LABEL)].map(([, name, value]) => [name, plain(value)]),
    );
    series.push({ id: line.slice(0, line.lastIndexOf(" ")), name: short(found[1]), labels, value: number(found[3]) });
  }
  return series;
}

/**
 * Return the quantile `q` of a histogram: `bounds` (the last one Infinity) and how many observations are at or below
 * each. Linear within a bucket, as Prometheus' histogram_quantile; the largest finite bound where it lies above; null
 * without observations.
 */
export function quantile(q, bounds, counts) {
  const total = counts.at(-1) ?? 0;
  if (!total) return null;
  const place = counts.findIndex((count) => count >= q * total);
  if (place === bounds.length - 1) return bounds.at(-2);
  const [low, below] = place ? [bounds[place - 1], counts[place - 1]] : [0, 0];
  return low + ((bounds[place] - low) * (q * total - below)) / (counts[place] - below);
}

/** What grew between readings of the last quarter of an hour, and the states of the last reading of each. */
export class History {
  constructor() {
    this.steps = []; // {begin, end, grown: [{name, labels, by}], states: [{name, labels, value}]}
    this.starts = new Set(); // when the processes that answered had started
  }

  /** Take in a scrape at a time in seconds. Counts start anew where another process answers. */
  add(series, time) {
    const start = series.find((each) => each.name === START)?.value;
    if (start !== this.start) this.steps = [];
    const fresh = start !== this.start || !this.last;
    this.start = start;
    this.starts.add(start);
    const values = new Map(series.map(({ id, value }) => [id, value]));
    if (!fresh) this.steps.push(this.step(series, time));
    this.last = { time, values };
    this.steps = this.steps.filter((step) => step.end > time - KEPT_SECONDS);
    this.bounds = boundsOf(series);
    this.states = series.filter((each) => STATES.has(each.name));
  }

  step(series, time) {
    const grown = [];
    for (const { id, name, labels, value } of series) {
      const by = value - (this.last.values.get(id) ?? 0);
      if (by > 0 && !STATES.has(name)) grown.push({ name, labels, by });
    }
    return { begin: this.last.time, end: time, grown, states: series.filter((each) => STATES.has(each.name)) };
  }

  /** Return the steps of the last `seconds`, as a Span. */
  span(seconds) {
    const end = this.last?.time ?? 0;
    return new Span(
      this.steps.filter((step) => step.begin >= end - seconds - 0.5),
      this.bounds,
    );
  }
}

/** Some steps that follow one another, asked as one. `wanted` are labels and their values (see `fits`). */
export class Span {
  constructor(steps, bounds = new Map()) {
    this.steps = steps;
    this.bounds = bounds; // of the buckets of each histogram, as they are written, in order
    this.seconds = steps.length ? steps.at(-1).end - steps[0].begin : 0;
  }

  /** Return by how much the counters of a name grew. */
  sum(name, wanted = {}) {
    let total = 0;
    for (const each of this.matching(name, wanted)) total += each.by;
    return total;
  }

  /** Return a counter's growth a second; null without steps. */
  rate(name, wanted = {}) {
    return this.seconds ? this.sum(name, wanted) / this.seconds : null;
  }

  /** Return a counter's growth by the values of a label. */
  by(label, name, wanted = {}) {
    const found = new Map();
    for (const { labels, by } of this.matching(name, wanted))
      found.set(labels[label], (found.get(labels[label]) ?? 0) + by);
    return found;
  }

  /** Return quantiles of a histogram, in its own unit; each is null without observations. */
  quantiles(name, shares, wanted = {}) {
    const grown = this.by("le", `${name}_bucket`, wanted);
    const bounds = this.bounds.get(`${name}_bucket`) ?? [];
    const counts = bounds.map((bound) => grown.get(bound) ?? 0);
    return shares.map((share) => quantile(share, bounds.map(number), counts));
  }

  /** Return the span of the steps that end at one step and reach back by `seconds`. */
  until({ end }, seconds) {
    const steps = this.steps.filter((each) => each.end <= end && each.begin >= end - seconds - 0.5);
    return new Span(steps, this.bounds);
  }

  /** Return the mean of a histogram's observations; null without. */
  mean(name, wanted = {}) {
    const count = this.sum(`${name}_count`, wanted);
    return count ? this.sum(`${name}_sum`, wanted) / count : null;
  }

  *matching(name, wanted) {
    for (const step of this.steps)
      for (const each of step.grown) if (each.name === name && fits(each.labels, wanted)) yield each;
  }
}

/** Return whether labels have the wanted values: a value, ANY, or PRESENT for any that is not empty. */
export function fits(labels, wanted) {
  return Object.entries(wanted).every(
    ([name, value]) => value === ANY || (value === PRESENT ? labels[name] : labels[name] === value),
  );
}

function boundsOf(series) {
  const found = new Map();
  for (const { name, labels } of series) {
    if (labels.le === undefined) continue;
    if (!found.has(name)) found.set(name, new Set());
    found.get(name).add(labels.le);
  }
  for (const [name, bounds] of found)
    found.set(
      name,
      [...bounds].sort((a, b) => number(a) - number(b)),
    );
  return found;
}

function short(name) {
  return name.startsWith(PREFIX) ? name.slice(PREFIX.length) : name;
}

function number(text) {
  return text === "+Inf" ? Infinity : Number(text);
}

function plain(value) {
  return value.replace(/\\(.)/g, (_, letter) => (letter === "n" ? "\n" : letter));
}
