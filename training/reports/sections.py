"""The sections of the page, in order: each draws one side of the figures, or nothing where there is nothing to show."""

from collections import Counter
from html import escape

from relevance.tasks import Task
from training.reports.charts import Bar, bar_chart, histogram
from training.reports.density import SEGMENT
from training.reports.markup import Section, figure, grid, paragraph, share, table
from training.reports.measures import DataReport, FileFigures, Histogram

__all__ = ["ALL", "escape"]

_SHOWN = 30  # bars a chart: a column that holds no languages may have thousands of values


def overview(report: DataReport) -> Section:
    """A table of the files."""
    measured = {
        "file": [file.name for file in report.files],
        "rows": [file.rows for file in report.files],
        "positive": [share(file.positive, file.rows) for file in report.files],
        "queries": [file.queries for file in report.files],
        "candidates": [file.candidates for file in report.files],
        "languages": [len(file.languages) for file in report.files],
        "repeated rows": [file.votes.merged_rows for file in report.files],
        "pairs with both labels": [file.votes.contradictory_pairs for file in report.files],
    }
    rows = [*zip(*measured.values(), strict=True)]
    return Section("overview", "Overview", table("Files; queries and candidates are counted once", [*measured], rows))


def languages(report: DataReport) -> Section:
    """Rows and positives by language tag."""
    text = "A scorer that says yes to everything gets the share of positives as its precision: compare with it."
    return Section("languages", "Rows and labels by language", paragraph(text) + grid([*map(_languages, report.files)]))


def _languages(file: FileFigures) -> str:
    bars = [
        Bar(name, (found.positive, found.rows - found.positive), f"{found.rows:,}, {share(found.positive, found.rows)}")
        for name, found in list(file.languages.items())[:_SHOWN]
    ]
    numbers = table(
        "Rows by language tag",
        ["language", "rows", "positive", "share", "queries"],
        [[n, f.rows, f.positive, share(f.positive, f.rows), f.queries] for n, f in file.languages.items()],
    )
    return figure(file.name, bar_chart(f"Rows by language in {file.name}", bars), numbers, ["positive", "negative"])


def lengths(report: DataReport) -> Section:
    """Lengths of queries and candidates."""
    candidate = "category paths" if report.task is Task.QC else "titles"
    queries = grid([_lengths(file, "queries", file.query_lengths) for file in report.files])
    candidates = grid([_lengths(file, candidate, file.candidate_lengths) for file in report.files])
    by_language = "".join(map(_query_lengths, report.files))
    text = f"In characters, different queries and different {candidate}; the last bar holds all longer ones."
    return Section("lengths", "Lengths", paragraph(text) + queries + by_language + candidates)


def _lengths(file: FileFigures, what: str, found: Histogram) -> str:
    starts = [at * found.width for at in range(len(found.counts))]
    labels = [*map(str, starts[:-1]), f"{starts[-1]}+"]
    ranges = [*(f"{start} to {start + found.width - 1}" for start in starts[:-1]), f"{starts[-1]} or more"]
    numbers = table(f"Lengths of {what}", ["characters", what], [*zip(ranges, found.counts, strict=True)])
    return figure(f"{file.name}, {what}", histogram(f"Lengths of {what} in {file.name}", found.counts, labels), numbers)


def _query_lengths(file: FileFigures) -> str:
    rows = [[name, *found.query_characters.values()] for name, found in file.languages.items()]
    numbers = table(
        f"Characters of queries in {file.name}", ["language", "median", "95 % have at most", "longest"], rows
    )
    return f"<details><summary>Query lengths by language, <bdi>{escape(file.name)}</bdi></summary>{numbers}</details>"


def depths(report: DataReport) -> Section | None:
    """Levels of category paths."""
    if report.task is not Task.QC:
        return None
    figures = []
    for file in report.files:
        bars = [Bar(f"{depth} levels", (count,), f"{count:,}") for depth, count in file.depths.items()]
        numbers = table("Different paths by depth", ["levels", "paths"], [*file.depths.items()])
        figures.append(figure(file.name, bar_chart(f"Depth of category paths in {file.name}", bars), numbers))
    return Section("depths", "Depth of category paths", grid(figures))


def duplicates(report: DataReport) -> Section:
    """Repeated rows and contradictory labels."""
    body = [paragraph("Repeated: same query, candidate and language. Case and white space make no difference.")]
    for file in report.files:
        both = file.votes
        text = f"{file.name}: {both.merged_rows:,} repeated rows; {both.contradictory_pairs:,} pairs have both labels"
        text += f" ({both.contradictory_votes:,} votes, {both.ties:,} ties)." if both.contradictory_pairs else "."
        body.append(paragraph(text, "alert" if both.contradictory_pairs else ""))
        if both.examples:
            rows = [[e.query, e.candidate, e.positive, e.negative, ", ".join(e.ids)] for e in both.examples]
            head = ["query", "candidate", "positive", "negative", "ids"]
            body.append(table("The first pairs with both labels", head, rows, texts=(0, 1, 4)))
    return Section("duplicates", "Repeated and contradictory rows", "".join(body))


def leaks(report: DataReport) -> Section | None:
    """Queries that two files share."""
    if not report.leaks:
        return None
    head = ["file", "other file", "shared queries", "rows of the file", "rows of the other"]
    rows = [[leak.first, leak.second, leak.queries, leak.first_rows, leak.second_rows] for leak in report.leaks]
    body = table("Queries in two files, whatever their case or white space", head, rows, texts=(0, 1))
    if not any(leak.queries for leak in report.leaks):
        return Section("leaks", "Leaks between files", paragraph("No query is in two files.", "good") + body)
    body = paragraph("Figures on files that share queries with train flatter the model.", "alert") + body
    for leak in report.leaks:
        if leak.examples:
            caption = f"Some queries of both {leak.first} and {leak.second}"
            body += table(caption, ["query"], [[query] for query in leak.examples])
    return Section("leaks", "Leaks between files", body)


def tags(report: DataReport) -> Section | None:
    """Language tags that disagree with detection."""
    if all(file.tags is None for file in report.files):
        return None
    text = (
        "A tag counts as wrong only where the detector is sure; queries of digits or of words that several languages "
    )
    text += "share are not judged. Short queries mislead any detector: look before you mend."
    return Section("tags", "Language tags", paragraph(text) + grid([*map(_tags, report.files)]))


def _tags(file: FileFigures) -> str:
    if file.tags is None:
        return ""
    wrong = file.tags.disagreements
    bars = [Bar(name, (count,), f"{count:,}") for name, count in list(wrong.items())[:_SHOWN]]
    chart = bar_chart(f"Rows by tag and detected language in {file.name}", bars)
    numbers = table("Different (query, tag) by outcome", ["outcome", "queries"], [*file.tags.outcomes.items()])
    numbers += table("Rows whose tag disagrees: tag, detected", ["tag -> detected", "rows"], [*wrong.items()])
    numbers += table("Examples", ["query", "tag", "detected", "confidence"], [*file.tags.examples], texts=(0, 1, 2))
    total = paragraph(f"{sum(wrong.values()):,} of {file.rows:,} rows ({share(sum(wrong.values()), file.rows)}).")
    return figure(file.name, total + (chart if bars else ""), numbers)


def scripts(report: DataReport) -> Section:
    """Letters of queries by script."""
    text = (
        "Letters of different queries. A few letters of a script that the language does not use are often look-alikes."
    )
    return Section("scripts", "Scripts of queries", paragraph(text) + grid([*map(_scripts, report.files)]))


def _scripts(file: FileFigures) -> str:
    totals: Counter[str] = Counter()
    for found in file.languages.values():
        totals.update(found.scripts)
    whole = totals.total()
    bars = [Bar(_name(script), (count,), share(count, whole)) for script, count in totals.most_common(_SHOWN)]
    names = [script for script, _ in totals.most_common()]
    rows = [
        [language, *(found.scripts.get(script, 0) for script in names)] for language, found in file.languages.items()
    ]
    numbers = table("Letters by language tag and script", ["language", *map(_name, names)], rows)
    return figure(file.name, bar_chart(f"Letters by script in {file.name}", bars), numbers)


def _name(script: str) -> str:
    return script.capitalize()


def densities(report: DataReport) -> Section:
    """Feature density of queries by language."""
    text = "Feature density (Eronen et al. 2021, arXiv 2111.01689): different features divided by all features; they "
    text += "found it to correlate with what classifiers reach. Here features are words, or pairs of characters in "
    text += f"languages without spaces, and the bars show the mean over segments of {SEGMENT:,} features, so that "
    text += "languages with few and many rows compare; languages with less have no bar. A hint only: where it is high, "
    text += "words seldom come back, and each is learned from fewer examples. Words and character pairs do not compare."
    return Section("density", "Feature density", paragraph(text) + grid([*map(_densities, report.files)]))


def _densities(file: FileFigures) -> str:
    measured = [(name, found.query_density) for name, found in file.languages.items()]
    by_density = sorted(((d.segmental, n, d.unit) for n, d in measured if d.segmental is not None), reverse=True)
    bars = [
        Bar(name, (value,), f"{value:.3f}" + ("" if unit == "words" else " (pairs)"))
        for value, name, unit in by_density[:_SHOWN]
    ]
    rows = [
        [name, d.unit, d.texts, d.features, d.different, f"{d.ratio:.3f}", _ratio(d.segmental)]
        for name, d in [*measured, ("all candidates", file.candidate_density)]
    ]
    head = ["language", "unit", "texts", "features", "different", "plain ratio", "by segments"]
    chart = bar_chart(f"Feature density of queries in {file.name}", bars, limit=1.0)
    chart = chart if bars else paragraph(f"No language has {SEGMENT:,} features.")
    return figure(file.name, chart, table("Feature density", head, rows, texts=(0, 1)))


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


ALL = (overview, languages, lengths, depths, duplicates, leaks, tags, scripts, densities)
