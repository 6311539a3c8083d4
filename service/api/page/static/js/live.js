// The view Live: what the service does now, from /metrics read every few seconds. Nothing is stored.

import { writeAddress } from "./address.js";
import { Chart } from "./chart.js";
import { fill, h, short } from "./dom.js";
import { call } from "./http.js";
import { PARTS } from "./timing.js";
import { ANY, History, PRESENT, fits, parse } from "./metrics.js";

const POLL_MILLISECONDS = 3000;
const POINT_SECONDS = 15; // a point of a chart is over the readings of this time
const CLASSES = ["1", "2-10", "11-50", "51-100", "101-500", "501+"];
const WINDOWS = { 1: "1 minute", 5: "5 minutes", 15: "15 minutes" };
const SHARES = [0.5, 0.95, 0.99];
const SHED = ["overloaded", "too_many_requests", "key_rate", "key_concurrency", "deadline", "not_ready"];
const LATENCY = "request_duration_seconds";

const history = new History(); // kept while other views are shown, so that coming back has the past

/** Show the view. Returns the function that leaves it. */
export function show(place, state, written) {
  const view = new Live(place, state, written);
  view.read();
  return () => view.leave();
}

class Live {
  constructor(place, state, written) {
    this.task = state.get("task") ?? "";
    this.minutes = state.get("minutes") in WINDOWS ? state.get("minutes") : "5";
    this.written = written;
    this.charts = {
      latency: new Chart("Latency", ["p50", "p95", "p99"], "ms", "No scored requests in this time"),
      throughput: new Chart("Throughput", ["pairs"], "/s", "No scored pairs in this time"),
      requests: new Chart("Requests", ["scored", "shed"], "/s", "No requests in this time"),
      queue: new Chart("Queue", ["interactive", "bulk"], "tokens"),
      batches: new Chart("Model runs", ["pairs a run"], "", "No model runs in this time"),
      padding: new Chart("Padding", ["share of the tokens"], "%", "No model runs in this time"),
    };
    this.build(place);
  }

  build(place) {
    this.notice = h("p", { class: "notice", role: "status", hidden: true });
    this.tiles = h("dl", { class: "tiles" });
    this.latencies = h("tbody");
    this.refusals = h("tbody");
    this.tasks = h("select", { id: "task", on: { change: () => this.choose() } }, h("option", { value: "" }, "all"));
    this.window = h(
      "select",
      { id: "window", on: { change: () => this.choose() } },
      Object.entries(WINDOWS).map(([value, name]) => h("option", { value, selected: value === this.minutes }, name)),
    );
    this.pause = h("button", { type: "button", class: "quiet", on: { click: () => this.halt() } }, "Pause");
    const field = (name, control) => h("div", { class: "field" }, h("label", { for: control.id }, name), control);
    place.append(
      h(
        "div",
        { class: "toolbar" },
        h("h1", {}, "Live"),
        h("div", { class: "row" }, field("Task", this.tasks), field("Last", this.window), this.pause),
      ),
      this.notice,
      this.tiles,
      h(
        "div",
        { class: "charts" },
        Object.values(this.charts).map((chart) => chart.element),
      ),
      this.table("Latency by number of candidates", this.latencies, [
        ...["Candidates", "Requests", "p50", "p95", "p99"],
        ...Object.values(PARTS).map((part) => `${part} (mean)`),
      ]),
      this.table("Refused requests", this.refusals, ["Reason", "Requests", "a minute"]),
      h(
        "p",
        { class: "muted small" },
        `One process, read every ${POLL_MILLISECONDS / 1000} s; a point covers ${POINT_SECONDS} s. ` +
          "Percentiles are interpolated within the buckets of a histogram. Bulk requests have no latency.",
      ),
    );
  }

  table(title, body, names) {
    const heads = names.map((name) => h("th", { scope: "col" }, name));
    const region = { class: "scroll", tabindex: "0", role: "region", "aria-label": title };
    return h(
      "section",
      { class: "card" },
      h("h2", {}, title),
      h("div", region, h("table", {}, h("thead", {}, h("tr", {}, heads)), body)),
    );
  }

  choose() {
    this.task = this.tasks.value;
    this.minutes = this.window.value;
    this.written(writeAddress("live", { task: this.task, minutes: this.minutes === "5" ? "" : this.minutes }));
    this.draw();
  }

  halt() {
    this.paused = !this.paused;
    this.pause.textContent = this.paused ? "Go on" : "Pause";
    clearTimeout(this.timer);
    if (!this.paused) this.read();
  }

  leave() {
    this.gone = true;
    clearTimeout(this.timer);
    for (const chart of Object.values(this.charts)) chart.leave();
  }

  async read() {
    try {
      const { data } = await call("metrics", { scope: "metrics" });
      if (this.gone || this.paused) return;
      history.add(parse(data), Date.now() / 1000);
      this.say(history.starts.size > 2 ? "Several processes answer here by turns: open the page of one of them." : "");
      this.draw();
    } catch (error) {
      if (this.gone) return;
      this.say(error.message);
      if (error.status === 401) return; // again when there is a key
    }
    this.timer = setTimeout(() => this.read(), POLL_MILLISECONDS);
  }

  say(text) {
    this.notice.hidden = !text;
    this.notice.textContent = text;
  }

  draw() {
    this.offer();
    const span = history.span(60 * Number(this.minutes));
    this.fillTiles(span);
    this.fillCharts(span);
    this.fillLatencies(span);
    const reasons = [...span.by("reason", "rejections_total")].sort((a, b) => b[1] - a[1]);
    const rows = reasons.map(([reason, count]) => row(reason, short(count), short((60 * count) / span.seconds)));
    fill(this.refusals, ...(rows.length ? rows : [row("none", "0", "0")]));
  }

  /** Offer the tasks that the metrics know. */
  offer() {
    const known = new Set((history.states ?? []).map((each) => each.labels.task).filter(Boolean));
    if (known.size === this.tasks.options.length - 1) return;
    const options = ["", ...known].map((task) =>
      h("option", { value: task, selected: task === this.task }, task || "all"),
    );
    fill(this.tasks, ...options);
  }

  fillTiles(span) {
    const of = { task: this.task || ANY };
    const [, high] = span.quantiles(LATENCY, SHARES, this.scored());
    const shed = span.steps.length ? shedOf(span) : null;
    const { waiting, oldest } = this.queue(history.states ?? []);
    const hits = span.sum("cache_lookups_total", { ...of, cache: "tokens", result: "hit" });
    const lookups = span.sum("cache_lookups_total", { ...of, cache: "tokens" });
    const tiles = [
      ["Requests scored", span.rate(`${LATENCY}_count`, this.scored()), "/s"],
      ["Pairs scored", span.rate("scores_total", of), "/s"],
      ["Latency, p95", high === null ? null : 1000 * high, "ms"],
      [oldest > 0 ? `Queue, oldest ${short(oldest, 2)} s` : "Queue", waiting, "tokens"],
      ["Shed", shed, "requests"],
      ["Padding", padding(span, of), "%"],
      ["Texts in the token cache", lookups ? (100 * hits) / lookups : null, "%"],
    ];
    fill(
      this.tiles,
      ...tiles.map(([name, value, unit]) =>
        h(
          "div",
          { class: "card tile" },
          h("dt", {}, name),
          h("dd", {}, short(value), value === null ? "" : " ", value === null ? "" : h("small", {}, unit)),
        ),
      ),
    );
  }

  fillCharts(span) {
    const of = { task: this.task || ANY };
    const { steps } = span;
    const points = steps.map((step) => span.until(step, POINT_SECONDS));
    const times = steps.map((step) => step.end);
    const lines = (...makers) => makers.map((make) => points.map(make));
    const latencies = points.map((point) => point.quantiles(LATENCY, SHARES, this.scored()));
    this.charts.latency.update(
      times,
      SHARES.map((_, place) => latencies.map((each) => each[place] && 1000 * each[place])),
    );
    this.charts.throughput.update(
      times,
      lines((point) => point.rate("scores_total", of)),
    );
    this.charts.requests.update(
      times,
      lines(
        (point) => point.rate(`${LATENCY}_count`, this.scored()),
        (point) => shedOf(point) / point.seconds,
      ),
    );
    const queues = steps.map((step) => this.queue(step.states));
    this.charts.queue.update(times, [queues.map((each) => each.interactive), queues.map((each) => each.bulk)]);
    this.charts.batches.update(
      times,
      lines((point) => point.mean("batch_pairs", of)),
    );
    this.charts.padding.update(
      times,
      lines((point) => padding(point, of)),
    );
  }

  fillLatencies(span) {
    const rows = CLASSES.map((pairs) => {
      const wanted = { ...this.scored(), pairs };
      const shown = span.quantiles(LATENCY, SHARES, wanted).map(milliseconds);
      const parts = Object.keys(PARTS).map((part) => milliseconds(span.mean(`${part}_duration_seconds`, wanted)));
      return row(pairs, short(span.sum(`${LATENCY}_count`, wanted)), ...shown, ...parts);
    });
    fill(this.latencies, ...rows);
  }

  /** The labels of requests that were scored. */
  scored() {
    return { task: this.task || PRESENT };
  }

  queue(states) {
    const of = (name, more = {}) =>
      states.filter((each) => each.name === name && fits(each.labels, { task: this.task || ANY, ...more }));
    const total = (priority) => of("queued_tokens", { priority }).reduce((sum, each) => sum + each.value, 0);
    const [interactive, bulk] = [total("interactive"), total("bulk")];
    return {
      interactive,
      bulk,
      waiting: interactive + bulk,
      oldest: Math.max(0, ...of("oldest_wait_seconds").map((each) => each.value)),
    };
  }
}

function shedOf(span) {
  return SHED.reduce((sum, reason) => sum + span.sum("rejections_total", { reason }), 0);
}

function padding(span, of) {
  const [tokens, wasted] = [span.sum("tokens_total", of), span.sum("padding_tokens_total", of)];
  return tokens + wasted ? (100 * wasted) / (tokens + wasted) : null;
}

function milliseconds(seconds) {
  return seconds === null ? "–" : `${short(1000 * seconds)} ms`;
}

function row(name, ...values) {
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, name),
    values.map((value) => h("td", {}, value)),
  );
}
