"""Training rows from a feedback log: what counts as shown, clicked and judged, and what cannot be used."""

import json
import random
import tracemalloc
from collections import Counter

import pytest

from relevance.errors import InputError
from relevance.feedback import HIDDEN, KEY_FILE
from relevance.tasks import Task
from service.feedback.entries import Event
from tests.feedback_logs import CLICK, JUDGEMENT, SHOWN, Log
from training.data.dataset import read_pairs
from training.data.files import lines
from training.data.files.reading import ReadOptions
from training.data.files.writers import write_file
from training.data.labels.clicks import BetaPrior
from training.data.labels.weights import label_shares, label_votes, label_weights
from training.feedback.from_logs import LogReading, rows_from_logs
from training.feedback.options import LogOptions, Shown

GIVEN = LogOptions(clicks="1:4")


@pytest.fixture
def log(tmp_path):
    return Log(tmp_path / "log")


def made(log, options=GIVEN, name="rows.jsonl", **reading):
    out = log.folder.parent / name
    report = rows_from_logs(LogReading(folder=log.folder, **reading), out, log.task, options)
    return report, read_pairs(out, log.task).rows


def counts(log, options=GIVEN):
    """Clicks and impressions by candidate."""
    rows = made(log, options)[1]
    return {row.pair.candidate: (row.extra["clicks"], row.extra["impressions"]) for row in rows}


def error_of(log, options=GIVEN, **reading):
    with pytest.raises(InputError) as caught:
        made(log, options, **reading)
    assert not (log.folder.parent / reading.get("name", "rows.jsonl")).exists()
    return str(caught.value)


def test_all_down_to_the_lowest_click_counts_as_seen(log):
    log.scores("1", "shoes", ["a", "b", "c", "d"])
    log.clicks("1", 1)
    log.clicks("1", 2, 2)
    assert counts(log) == {"a": (0, 1), "b": (1, 1), "c": (1, 1)}


def test_a_list_without_events_says_nothing_by_default_and_all_with_returned(log):
    log.scores("1", "shoes", ["a", "b"])
    log.scores("2", "shoes", ["a", "b"])
    log.clicks("2", 0)
    assert counts(log) == {"a": (1, 1)}
    assert counts(log, GIVEN.model_copy(update={"shown": Shown.RETURNED})) == {"a": (1, 2), "b": (0, 2)}


def test_what_is_reported_as_shown_is_believed(log):
    log.scores("1", "shoes", ["a", "b", "c", "d"])
    log.events("1", Event(SHOWN, index=3), Event(SHOWN, index=0), Event(CLICK, index=3))
    log.scores("2", "shoes", ["a", "b", "c", "d"])
    log.clicks("2", 1)
    assert counts(log) == {"a": (0, 2), "b": (1, 1), "d": (1, 1)}
    assert counts(log, GIVEN.model_copy(update={"shown": Shown.REPORTED})) == {"a": (0, 1), "d": (1, 1)}


def test_an_answer_that_was_not_ranked_counts_by_score(log):
    log.scores("1", "shoes", ["a", "b", "c"], ranked=False)
    log.clicks("1", 1)
    assert counts(log) == {"a": (0, 1), "b": (1, 1)}


def test_a_candidate_that_a_list_has_twice_is_one_impression(log):
    log.scores("1", "shoes", ["a", "a", "b"])
    log.clicks("1", 2)
    log.events("1", Event(CLICK, candidate="a"))
    assert counts(log) == {"a": (1, 1), "b": (1, 1)}


def test_languages_and_queries_are_rows_of_their_own(log):
    for number, (query, language) in enumerate([("shoes", "en"), ("shoes", "de"), ("cups", "en"), ("shoes", "en")]):
        log.scores(str(number), query, ["a"], language=language)
        log.clicks(str(number), 0)
    rows = made(log)[1]
    found = {(row.pair.query, row.pair.language): row.extra["impressions"] for row in rows}
    assert found == {("shoes", "en"): 2, ("shoes", "de"): 1, ("cups", "en"): 1}


def test_clicks_become_the_targets_that_reading_with_clicks_makes(log):
    for number in range(4):
        log.scores(str(number), "shoes", ["a", "b"])
        log.clicks(str(number), 0 if number else 1)
    report, rows = made(log)
    records = [json.loads(line) for line in (log.folder.parent / "rows.jsonl").read_text().splitlines()]
    counted = [{name: value for name, value in each.items() if "label" not in name} for each in records]
    write_file(log.folder.parent / "counts.jsonl", counted)
    again = read_pairs(log.folder.parent / "counts.jsonl", Task.QC, reading=ReadOptions(clicks="1:4")).rows
    assert label_shares(rows) == label_shares(again) == [BetaPrior(1, 4).rate(3, 4), BetaPrior(1, 4).rate(1, 1)]
    assert label_weights(rows) == label_weights(again)
    assert [row.label for row in rows] == [row.label for row in again] == [1, 1]
    assert (report.clicks, report.impressions, report.prior) == (4, 5, (1.0, 4.0))


def test_the_prior_is_fitted_to_all_rows(log):
    for number in range(30):
        log.scores(str(number), "shoes", ["a", "b", "c"])
        log.clicks(str(number), 2 if number % 3 else 0)
    report, rows = made(log, LogOptions())
    expected = BetaPrior.fitted([(row.extra["clicks"], row.extra["impressions"]) for row in rows])
    assert report.prior == (expected.a, expected.b)


def test_few_impressions_can_be_left_out(log):
    log.scores("1", "shoes", ["a", "b"])
    log.scores("2", "shoes", ["a"])
    log.clicks("1", 1)
    log.clicks("2", 0)
    assert counts(log, GIVEN.model_copy(update={"min_impressions": 2})) == {"a": (1, 2)}


def test_a_judgement_outweighs_clicks_and_the_last_of_an_annotator_counts(log):
    log.scores("1", "shoes", ["a", "b", "c"])
    log.clicks("1", 0)
    log.events("1", Event(JUDGEMENT, index=0, grade="S", annotator="x"))
    log.events("1", Event(JUDGEMENT, index=0, grade="I", annotator="x"))
    log.events("1", Event(JUDGEMENT, index=0, grade="E", annotator="y"))
    log.events("1", Event(JUDGEMENT, index=1, grade="E"), Event(JUDGEMENT, index=1, grade="E"))
    report, rows = made(log, LogOptions(clicks="1:4", grades="E=1,S=.7,I=0"))
    assert [(row.pair.candidate, row.label) for row in rows] == [("a", 1), ("b", 1)]
    assert label_shares(rows) == [0.5, 1.0]
    assert label_votes(rows) == [2, 1]
    assert label_weights(rows) == [1.0, 1.0]
    assert report.judged == 2


def test_events_of_other_requests_and_of_other_tasks_are_told_apart(log):
    log.scores("1", "shoes", ["a"])
    log.clicks("1", 0)
    log.clicks("elsewhere", 0, 1)
    other = Log(log.folder, task=Task.QI)
    other.scores("2", "shoes", ["title"])
    other.clicks("2", 0)
    report, rows = made(log)
    assert (report.lists, report.events, report.unmatched, len(rows)) == (1, 1, 2, 1)
    left = log.folder.parent / "rows.jsonl.unmatched.jsonl"
    assert [json.loads(line)["index"] for line in left.read_text().splitlines()] == [0, 1]


def test_unmatched_events_are_used_once_their_request_is_there(log):
    log.scores("1", "shoes", ["a"])
    log.clicks("1", 0)
    log.clicks("2", 1)
    made(log)
    (log.folder.parent / "rows.jsonl.unmatched.jsonl").rename(log.folder / "later.jsonl")
    log.file.write_bytes(b"")
    log.scores("2", "shoes", ["a", "b"])
    assert counts(log) == {"a": (0, 1), "b": (1, 1)}
    assert not (log.folder.parent / "rows.jsonl.unmatched.jsonl").exists()


def test_a_retry_with_the_same_id_counts_once(log):
    log.scores("1", "shoes", ["a", "b"])
    log.scores("1", "shoes", ["a", "b"])
    log.clicks("1", 1)
    assert counts(log) == {"a": (0, 1), "b": (1, 1)}


def test_an_id_of_several_queries_needs_the_query(log):
    log.scores("1", "shoes", ["a", "b"])
    log.scores("1", "cups", ["a", "b"])
    log.events("1", Event(CLICK, index=0), query="cups")
    rows = made(log)[1]
    assert [(row.pair.query, row.pair.candidate) for row in rows] == [("cups", "a")]
    log.clicks("1", 1)
    assert "ambiguous candidate, index = 1; expected one candidate; 2 lists have it: send `query`" in error_of(
        log, name="again.jsonl"
    )


BAD = [
    (b"{half\n", "malformed JSON"),
    (b"[1]\n", "not an object"),
    (b'{"kind": "likes"}\n', "not a line of the log"),
    (b'{"kind": "feedback", "schema": 2, "time": "2026-01-01T00:00:00Z", "request_id": "1", "type": "click"}\n', "2"),
    (b'{"kind": "scores"}\n', "row 9: missing field, candidates; expected what the service writes there"),
    (b'{"kind": "feedback", "schema": 1, "time": "yesterday", "request_id": "", "type": "like"}\n', "yesterday"),
]


def test_all_bad_lines_are_reported_together_and_can_be_left_out(log):
    log.scores("1", "shoes", ["a"])
    log.clicks("1", 0, 7)
    log.events("1", Event(JUDGEMENT, index=0, grade="good"))
    for line, _ in BAD:
        log.raw(line)
    message = error_of(log)
    assert "8 bad of 10 lines" in message.splitlines()[0]
    for _, part in BAD:
        assert part in message
    assert "feedback-1.jsonl row 3: unknown candidate, index = 7; expected a candidate of the request" in message
    assert "unknown grade, grade = 'good'; expected 0 or 1; other grades need --grades" in message
    report, rows = made(log, skip_bad_rows=True)
    assert (report.bad_lines, len(rows)) == (8, 1)
    kept = (log.folder.parent / "rows.jsonl.bad_rows.log.jsonl").read_text().splitlines()
    assert len({json.loads(line)["row"] for line in kept}) == 8


def test_a_log_of_hashes_takes_its_texts_from_files(log, tmp_path):
    log.texts = "none"
    log.scores("1", "shoes", ["a", "b", "c"])
    log.clicks("1", 2)
    message = error_of(log)
    assert "4 x unknown text" not in message
    assert "3 x unknown text, query_hash" in message
    assert "--texts FILE gives what they are of" in message
    (tmp_path / "queries.jsonl").write_text('{"query": "shoes"}\n{"query": "cups"}\n')
    (tmp_path / "categories.csv").write_text("id,path\n1,a\n2,b\n3,x\n")
    reading = ReadOptions(columns={"path": "category_path"})
    texts = (tmp_path / "queries.jsonl", tmp_path / "categories.csv")
    assert "1 x unknown text, hash" in error_of(log, texts=texts, reading=reading)
    with (tmp_path / "categories.csv").open("a") as file:
        file.write("4,c\n")
    rows = made(log, texts=texts, reading=reading)[1]
    assert [(row.pair.query, row.pair.candidate, row.label) for row in rows] == [
        ("shoes", "a", 0),
        ("shoes", "b", 0),
        ("shoes", "c", 1),
    ]


def test_logs_with_keys_of_their_own_meet_by_text(tmp_path):
    for name in ("one", "two"):
        log = Log(tmp_path / "log" / name)
        log.scores(name, "shoes", ["a", "b"])
        log.clicks(name, 1)
    log.folder = tmp_path / "log"
    assert counts(log) == {"a": (0, 2), "b": (2, 2)}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda log, file: (log.folder / KEY_FILE).unlink(), r"has no \.hash-key; expected the key"),
        (lambda log, file: (log.folder / KEY_FILE).write_text("00"), "expected 32 bytes in hexadecimal"),
        (lambda log, file: file.write_text('{"name": "a"}\n'), "--texts .* holds no text; expected a column"),
    ],
)
def test_texts_that_cannot_be_hashed_or_found_are_named(log, tmp_path, spoil, message):
    log.texts = "none"
    log.scores("1", "shoes", ["a"])
    file = tmp_path / "texts.jsonl"
    file.write_text('{"query": "shoes"}\n')
    spoil(log, file)
    with pytest.raises(Exception, match=message):
        made(log, texts=(file,))


def test_nothing_to_learn_from_is_said(log, tmp_path):
    log.scores("1", "shoes", ["a"])
    assert "no rows: 1 lists of task qc and 0 events on them; expected clicks" in error_of(log)
    assert "no rows: 0 lists of task qi" in error_of(Log(log.folder, task=Task.QI))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "feedback-1.jsonl").touch()
    with pytest.raises(InputError, match="holds no lines; expected those of a feedback log"):
        made(Log(tmp_path / "empty"))


def test_a_folder_that_is_none_is_named(tmp_path):
    with pytest.raises(InputError, match="none: no such folder; expected the feedback_folder of the service"):
        rows_from_logs(LogReading(folder=tmp_path / "none"), tmp_path / "rows.jsonl", Task.QC, GIVEN)


def test_clicks_alone_fit_no_prior(log):
    log.scores("1", "shoes", ["a"])
    log.clicks("1", 0)
    assert "expected impressions with and without a click" in error_of(log, LogOptions())


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet", "rows.tsv.gz"])
def test_rows_are_written_in_every_format(log, name):
    log.scores("1", "shoes", ["a", "b"])
    log.clicks("1", 1)
    log.events("1", Event(JUDGEMENT, index=0, grade=1))
    rows = made(log, name=name)[1]
    assert [(row.pair.candidate, row.label) for row in rows] == [("a", 1), ("b", 1)]
    assert label_shares(rows) == [1.0, BetaPrior(1, 4).rate(1, 1)]


def _random_log(log, lists, seed=0):
    """Add lists of random candidates with random clicks. Returns the counts by candidate, taken in the plain way."""
    rng, found = random.Random(seed), Counter()
    for number in range(lists):
        candidates = rng.sample("abcdefgh", 5)
        log.scores(f"r{number}", "shoes", list(candidates))
        clicked = [place for place in range(5) if rng.random() < 0.2]
        if clicked:
            log.clicks(f"r{number}", *clicked)
            for place in range(max(clicked) + 1):
                found[candidates[place], "impressions"] += 1
                found[candidates[place], "clicks"] += place in clicked
    return {each: (found[each, "clicks"], found[each, "impressions"]) for each in "abcdefgh"}


def test_counts_are_those_of_a_plain_count(log):
    assert _random_log(log, 300) == counts(log)


def test_memory_does_not_grow_with_the_log(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "BLOCK_BYTES", 1 << 14)  # both logs are longer than what is read at once
    peaks = []
    for lists in (200, 4000):
        log = Log(tmp_path / str(lists) / "log")
        _random_log(log, lists)
        tracemalloc.start()
        made(log)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0] + 500_000, peaks


def test_files_that_a_service_still_writes_are_named_as_such(log, caplog):
    log.scores("1", "shoes", ["a", "b"])
    log.clicks("1", 1)
    made(log, name="before.jsonl")
    assert caplog.text == ""
    log.file.rename(log.folder / f"{HIDDEN}1.jsonl")
    assert "is a folder without data files" in error_of(log)
    assert f"1 files that a service still writes are not read ({HIDDEN}1.jsonl); it publishes them at" in caplog.text
