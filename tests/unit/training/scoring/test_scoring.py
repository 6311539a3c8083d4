import csv
import datetime
import decimal
import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevance.errors import BundleError, ConfigError, InputError, MachineError
from relevance.model.bundle import GOLDEN_FILE, MANIFEST_FILE, Bundle, Golden, Manifest, write_bundle_files
from relevance.model.session import BundleSession, batches
from relevance.scorer import Scorer
from relevance.storage.locks import output_lock
from relevance.tasks import SCORE_FIELDS, Task
from tests.tiny import MAX_LENGTH, tiny_bundle
from training.data.dataset import read_rows
from training.data.files.json_lines import json_line
from training.data.files.writers import Columns, write_file, write_objects, write_records
from training.data.pair_blocks import PairBlock
from training.scoring import output, run
from training.scoring.input import Source, survey
from training.scoring.options import ScoreOptions
from training.scoring.run import NO_SCORE, _mark, score_file
from training.scoring.shards import LocalRunner
from training.scoring.staged import StagedRows, staging
from training.scoring.work import Work

OPTIONS = ScoreOptions(threads=1, device="cpu", shard_rows=7, max_batch_tokens=400)
LANGUAGES = ("en", "ja", "vn", "")


def rows(count=30):
    return [
        {
            "id": i,
            "origin_query": f"靴 red shoe {i} " * (1 + i * 7 % 5),
            "color": 'bleu, "vert" rouge',
            "category_path": "shoes,sneakers" if i % 3 else "home,kitchen,cups & mugs",
            "language": LANGUAGES[i % 4],
            "price": i / 4,
        }
        for i in range(count)
    ]


def write(path, records):
    """Write records with the standard libraries, in the order of their keys."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    else:
        with path.open("w", newline="") as stream:
            if path.suffix == ".tsv":
                rows = [list(records[0]), *[list(record.values()) for record in records]]
                stream.writelines("\t".join(map(str, row)) + "\n" for row in rows)
                return path
            writer = csv.DictWriter(stream, list(records[0]))
            writer.writeheader()
            writer.writerows(records)
    return path


def read(path):
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with path.open(newline="") as stream:
        kind = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if path.suffix == ".tsv" else {}
        return list(csv.DictReader(stream, **kind))


def scored(bundle, tmp_path, records, out="out.jsonl", source="in.jsonl", **changes):
    file = write(tmp_path / source, records)
    score_file(bundle, file, tmp_path / out, OPTIONS.model_copy(update=changes))
    return read(tmp_path / out)


@given(st.lists(st.integers(1, 60), max_size=80), st.integers(1, 300))
def test_batches_hold_every_pair_once_within_the_budget(lengths, budget):
    found = list(batches(lengths, budget))
    assert sorted(place for batch in found for place in batch) == list(range(len(lengths)))
    for batch in found:
        assert len(batch) * max(lengths[place] for place in batch) <= budget or len(batch) == 1


def test_scores_are_those_of_one_pair_at_a_time_in_the_order_of_the_file(bundle, tmp_path):
    found = scored(bundle, tmp_path, rows())
    opened = Bundle.open(bundle)
    runner, card = BundleSession.open(opened, 1, "cpu"), opened.manifest
    pairs = [row.pair for row in read_rows(tmp_path / "in.jsonl", Task.QC, require_labels=False).rows]
    tokens = runner.inputs.encode(pairs)
    alone = [float(card.scores(runner.logits([token]))[0]) for token in tokens]
    assert [record["id"] for record in found] == list(range(30))
    np.testing.assert_allclose([record["score"] for record in found], alone, atol=1e-6)
    cuts = [0.9 if pair.language == "ja" else 0.5 for pair in pairs]
    assert [r["label_predicted"] for r in found] == [int(a >= cut) for a, cut in zip(alone, cuts, strict=True)]
    assert any(0.5 <= r["score"] < 0.9 and r["language"] == "ja" for r in found)
    assert [r["truncated"] for r in found] == [len(token) == MAX_LENGTH for token in tokens]
    assert {r["truncated"] for r in found} == {True, False}
    assert {r["model_version"] for r in found} == {card.version}


@pytest.mark.parametrize("source", ["in.jsonl", "in.csv", "in.tsv", "in.parquet"])
@pytest.mark.parametrize("out", ["out.jsonl", "out.csv", "out.tsv", "out.parquet"])
def test_every_field_is_kept_in_every_pair_of_formats(bundle, tmp_path, source, out):
    found = scored(bundle, tmp_path, rows(), out, source)
    as_text = {".csv", ".tsv"} & {Path(source).suffix, Path(out).suffix}
    expected = [{k: str(v) if as_text else v for k, v in row.items()} for row in rows()]
    assert list(found[0]) == [*rows()[0], *SCORE_FIELDS]
    assert [{k: v for k, v in record.items() if k not in SCORE_FIELDS} for record in found] == expected
    json_scores = [r["score"] for r in scored(bundle, tmp_path, rows(), "same.jsonl", source)]
    assert [float(record["score"]) for record in found] == json_scores


def test_names_and_values_stay_as_the_file_has_them(bundle, tmp_path):
    record = {
        "candidate": "a,b",
        "task": "QC",
        "query": "x",
        "language": "VN",
        "label": "1.0",
        "tags": [1, {"a": None}],
    }
    [found] = scored(bundle, tmp_path, [record])
    assert list(found) == [*record, *SCORE_FIELDS]
    assert {k: found[k] for k in record} == record


def test_a_table_holds_as_text_what_it_cannot_hold_as_it_is(bundle, tmp_path):
    base = {"query": "x", "candidate": "a,b"}
    odd = [
        base | {"list": [1, "a"], "mixed": "word", "int": 1, "float": 1, "big": 2**70, "long": 2**60, "flag": True},
        base | {"list": None, "mixed": 2.5, "int": None, "float": 0.5, "big": 1, "long": 0.5, "only": "\ud800"},
        base | {"none": None},
    ]
    first, second, third = scored(bundle, tmp_path, odd, "out.parquet")
    assert first["list"] == '[1, "a"]'
    assert (first["mixed"], second["mixed"]) == ("word", "2.5")
    assert (first["int"], second["int"]) == (1, None)
    assert (first["float"], second["float"]) == (1.0, 0.5)
    assert (first["big"], first["long"], second["long"]) == (str(2**70), str(2**60), "0.5")
    assert (first["flag"], second["only"], third["none"]) == (True, "\\ud800", None)
    table = scored(bundle, tmp_path, odd, "out.csv")
    assert (table[0]["list"], table[0]["flag"], table[1]["list"], table[2]["none"]) == ('[1, "a"]', "true", "", "")


def test_parquet_keeps_the_types_of_parquet(bundle, tmp_path):
    columns = {
        "query": pa.array(["x", "y"]),
        "candidate": pa.array(["a,b", "c"]).dictionary_encode(),
        "day": pa.array([datetime.date(2024, 2, 29), None]),
        "seen": pa.array([datetime.datetime(2024, 2, 29, 12, 30), None], pa.timestamp("us", "UTC")),
        "price": pa.array([decimal.Decimal("1.50"), None], pa.decimal128(9, 2)),
        "sizes": pa.array([[1, 2], []], pa.list_(pa.int8())),
        "shop": pa.array([{"name": "a"}, None]),
        "raw": pa.array([b"\xff", None]),
    }
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    score_file(bundle, tmp_path / "in.parquet", tmp_path / "out.parquet", OPTIONS)
    before, after = pq.read_table(tmp_path / "in.parquet"), pq.read_table(tmp_path / "out.parquet")
    assert after.select(before.column_names).equals(before)
    assert [str(field.type) for field in after.schema][-4:] == ["double", "int64", "bool", "string"]


@given(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from([".csv", ".tsv", ".parquet", ".jsonl"]))
def test_any_text_survives_any_format(tmp_path_factory, text, suffix):
    file = tmp_path_factory.mktemp("text") / f"out{suffix}"
    record = {"query": "x", "candidate": "a", "note": text, "last": "y"}
    columns = Columns()
    columns.see(record)
    if suffix == ".tsv" and set(text) & set("\t\n\r"):
        with pytest.raises(InputError, match="'note' holds a tab or a line break, which TSV cannot hold"):
            write_file(file, [record])
        return
    write_records(file, (suffix, ""), [record], columns)
    [found] = read_rows(file, Task.QC, require_labels=False).rows
    assert found.extra == {"note": text, "last": "y"}


def test_bad_rows_end_the_run_before_anything_is_scored(bundle, tmp_path):
    records = [*rows(8), {"id": 8, "origin_query": "x", "category_path": None}, {"id": 9, "label": 7}]
    with pytest.raises(InputError, match=r"2 bad of 10 rows(.|\n)*row 9: empty text(.|\n)*row 10(.|\n)*label = 7"):
        scored(bundle, tmp_path, records)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl"]


def test_bad_rows_are_left_out_and_written_to_a_file_when_asked(bundle, tmp_path):
    records = rows(20)
    records[3]["category_path"] = records[11]["origin_query"] = None
    found = scored(bundle, tmp_path, records, skip_bad_rows=True)
    assert [record["id"] for record in found] == [i for i in range(20) if i not in (3, 11)]
    bad = read(tmp_path / "out.jsonl.bad_rows.in.jsonl")
    assert [(record["row"], record["field"]) for record in bad] == [(4, "category_path"), (12, "origin_query")]
    assert {r["id"]: r["score"] for r in found} == pytest.approx(
        {r["id"]: r["score"] for r in scored(bundle, tmp_path, rows(20), "all.jsonl") if r["id"] not in (3, 11)},
        abs=1e-6,
    )


def test_a_file_without_a_good_row_is_an_error_even_when_bad_rows_may_be_skipped(bundle, tmp_path):
    with pytest.raises(InputError, match="2 bad of 2"):
        scored(bundle, tmp_path, [{"query": "", "candidate": "a"}, {"query": 1, "candidate": "a"}], skip_bad_rows=True)


def test_very_many_bad_rows_are_not_all_held(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("training.scoring.input.BAD_ROWS_NAMED", 5)
    bad = [{"query": "", "candidate": "a"}] * 9
    with pytest.raises(InputError, match=r"5 bad of 6 rows(.|\n)*reading stopped after 5"):
        scored(bundle, tmp_path, [*rows(1), *bad])
    assert len(scored(bundle, tmp_path, [*rows(1), *bad, *rows(1)], skip_bad_rows=True)) == 2


@pytest.mark.parametrize("out", ["out.jsonl", "out.csv"])
def test_a_field_that_is_there_already_is_not_replaced(bundle, tmp_path, out):
    record = rows(1)[0] | {"score": 3}
    with pytest.raises(InputError, match=r"'score' already.*--prefix"):
        scored(bundle, tmp_path, [record], out)
    [found] = scored(bundle, tmp_path, [record], out, prefix="new_")
    assert str(found["score"]) == "3"
    assert 0 < float(found["new_score"]) < 1


def test_an_output_that_exists_stays_unless_it_may_be_replaced(bundle, tmp_path):
    (tmp_path / "out.jsonl").write_text("mine\n")
    with pytest.raises(ConfigError, match="exists already"):
        scored(bundle, tmp_path, rows(2))
    assert (tmp_path / "out.jsonl").read_text() == "mine\n"
    assert len(scored(bundle, tmp_path, rows(2), overwrite=True)) == 2


@pytest.mark.parametrize(
    ("out", "message"), [("out.xlsx", r"\.xlsx"), ("in.jsonl", "is the input"), (".", "file type")]
)
def test_an_output_that_cannot_be_is_refused(bundle, tmp_path, out, message):
    with pytest.raises((ConfigError, InputError), match=message):
        scored(bundle, tmp_path, rows(2), out, overwrite=True)


def test_a_file_that_changes_meanwhile_is_an_error(bundle, tmp_path, monkeypatch):
    def grow(path, *rest):
        with (tmp_path / "in.jsonl").open("a") as stream:
            stream.write("\n")
        return write_objects(path, *rest)

    monkeypatch.setattr(output, "write_objects", grow)
    with pytest.raises(InputError, match="changed while it was scored"):
        scored(bundle, tmp_path, rows(9))
    assert not (tmp_path / "out.jsonl").exists()


def test_a_bundle_that_disagrees_with_its_golden_pairs_is_refused(tmp_path):
    folder = tmp_path / "bundle"
    manifest = tiny_bundle(folder)
    golden = [Golden.model_validate_json(line) for line in (folder / GOLDEN_FILE).read_text().splitlines()]
    (folder / MANIFEST_FILE).unlink()
    write_bundle_files(folder, Manifest(**manifest.model_dump()), [golden[0].model_copy(update={"logit": 9.0})])
    with pytest.raises(BundleError, match="golden pair 1"):
        scored(folder, tmp_path, rows(2))


def test_cuda_that_is_not_there_is_named(bundle, tmp_path):
    with pytest.raises(MachineError, match="device cuda"):
        scored(bundle, tmp_path, rows(2), device="cuda")


def stop_after(monkeypatch, shards):
    """Break off, as a full disk does, once some shards are saved."""
    save = Work.save
    saved = []

    def failing(work, index, shard):
        if len(saved) == shards:
            raise OSError(28, "No space left on device")
        saved.append(index)
        save(work, index, shard)

    monkeypatch.setattr(Work, "save", failing)


def interrupted(bundle, tmp_path, monkeypatch, shards=2):
    """Score 30 rows in shards of 7 until `shards` are saved; make every score of the first one 0.25."""
    with monkeypatch.context() as patch:
        stop_after(patch, shards)
        with pytest.raises(MachineError, match="No space left"):
            scored(bundle, tmp_path, rows())
    first = tmp_path / ".out.jsonl.work" / "shard-000000.npy"
    kept = np.load(first)
    kept["score"] = 0.25
    np.save(first, kept)
    return first


def scores(path):
    return [record["score"] for record in read(path)]


def test_finished_shards_are_not_scored_again(bundle, tmp_path, monkeypatch):
    interrupted(bundle, tmp_path, monkeypatch)
    report = score_file(bundle, tmp_path / "in.jsonl", tmp_path / "out.jsonl", OPTIONS)
    score_file(bundle, tmp_path / "in.jsonl", tmp_path / "alone.jsonl", OPTIONS)
    assert (report.rows, report.resumed) == (30, 14)
    assert scores(tmp_path / "out.jsonl") == [0.25] * 7 + scores(tmp_path / "alone.jsonl")[7:]
    assert not (tmp_path / ".out.jsonl.work").exists()


@pytest.mark.parametrize(("prefix", "surveys"), [("", 0), ("new_", 1)])
def test_a_survey_that_ended_is_not_repeated_unless_the_output_is_another(
    bundle, tmp_path, monkeypatch, prefix, surveys
):
    interrupted(bundle, tmp_path, monkeypatch)
    seen = []
    monkeypatch.setattr(run, "survey", lambda *arguments: seen.append(arguments) or survey(*arguments))
    options = OPTIONS.model_copy(update={"prefix": prefix})
    report = score_file(bundle, tmp_path / "in.jsonl", tmp_path / "out.jsonl", options)
    assert (report.rows, report.resumed, len(seen)) == (30, 14, surveys)
    assert [record[f"{prefix}score"] for record in read(tmp_path / "out.jsonl")][:7] == [0.25] * 7


OTHER_OPTIONS = {"shard_rows": 8, "max_batch_tokens": 300, "threads": 2}


@pytest.mark.parametrize("field", ScoreOptions.model_fields)
def test_every_option_that_changes_scores_is_in_the_mark(bundle, tmp_path, field):
    source = Source(write(tmp_path / "in.jsonl", rows()), Task.QC)
    runner = LocalRunner(Scorer.open(bundle, threads=1, device="cpu"))
    other = OPTIONS.model_copy(update={field: OTHER_OPTIONS.get(field, "x")})
    assert (field in OTHER_OPTIONS) == (field not in NO_SCORE | {"device", "reading"})
    assert (_mark(source, runner, OPTIONS) != _mark(source, runner, other)) == (field in OTHER_OPTIONS)


@pytest.mark.parametrize(
    ("field", "value"),
    [("columns", {"q": "origin_query"}), ("encoding", "latin-1"), ("delimiter", ";"), ("quotes", False)],
)
def test_how_the_file_is_read_is_in_the_mark(bundle, tmp_path, field, value):
    source = Source(write(tmp_path / "in.jsonl", rows()), Task.QC)
    runner = LocalRunner(Scorer.open(bundle, threads=1, device="cpu"))
    other = replace(source, reading=source.reading.model_copy(update={field: value}))
    assert _mark(source, runner, OPTIONS) != _mark(other, runner, OPTIONS)


@pytest.mark.parametrize("change", ["file", "bundle", "options"])
def test_shards_of_another_run_are_thrown_away(bundle, tmp_path, monkeypatch, change):
    interrupted(bundle, tmp_path, monkeypatch)
    options = OPTIONS
    if change == "file":  # as large and as old as before
        file = tmp_path / "in.jsonl"
        stat = file.stat()
        file.write_bytes(file.read_bytes().replace(b"shoe 3 ", b"shoe 7 "))
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert file.stat().st_size == stat.st_size
    elif change == "bundle":
        bundle = tmp_path / "bundle"
        tiny_bundle(bundle, seed=1)
    else:
        options = OPTIONS.model_copy(update={"max_batch_tokens": 300})
    report = score_file(bundle, tmp_path / "in.jsonl", tmp_path / "out.jsonl", options)
    assert report.resumed == 0
    assert 0.25 not in scores(tmp_path / "out.jsonl")


def test_a_damaged_shard_is_scored_again(bundle, tmp_path, monkeypatch):
    shard = interrupted(bundle, tmp_path, monkeypatch)
    shard.write_bytes(shard.read_bytes()[:90])
    report = score_file(bundle, tmp_path / "in.jsonl", tmp_path / "out.jsonl", OPTIONS)
    assert report.resumed == 7
    assert 0.25 not in scores(tmp_path / "out.jsonl")


def test_two_runs_to_one_output_do_not_meet(bundle, tmp_path):
    with output_lock(tmp_path / "out.jsonl"), pytest.raises(MachineError, match="in use by process"):
        scored(bundle, tmp_path, rows(2))
    assert len(scored(bundle, tmp_path, rows(2))) == 2


@pytest.mark.parametrize("out", ["out.jsonl", "out.csv", "out.parquet"])
def test_equal_runs_give_equal_bytes(bundle, tmp_path, out):
    scored(bundle, tmp_path, rows(), out)
    first = (tmp_path / out).read_bytes()
    scored(bundle, tmp_path, rows(), out, overwrite=True)
    assert (tmp_path / out).read_bytes() == first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row | {"price": str(row["price"])}, "price: string; expected price: double"),
        (lambda row: row | {"new": 1}, "new: int64; an output"),
        (lambda row: dict(reversed(row.items())), "the same ones in another order"),
    ],
)
def test_part_files_of_different_columns_are_named_before_anything_is_scored(
    bundle, tmp_path, monkeypatch, change, message
):
    (tmp_path / "parts").mkdir()
    write(tmp_path / "parts" / "part-0.parquet", rows(5))
    write(tmp_path / "parts" / "part-1.parquet", [change(row) for row in rows(5)])
    monkeypatch.setattr(Work, "save", None)
    with pytest.raises(InputError, match=rf"part-1.parquet: its columns differ .*{message}"):
        score_file(bundle, tmp_path / "parts", tmp_path / "out.parquet", OPTIONS)
    monkeypatch.undo()
    report = score_file(bundle, tmp_path / "parts", tmp_path / "out.jsonl", OPTIONS)
    assert report.rows == len(read(tmp_path / "out.jsonl")) == 10


def test_a_corrupt_part_file_is_named_and_the_rest_is_scored_without_it(bundle, tmp_path):
    (tmp_path / "parts").mkdir()
    for number in range(3):
        write(tmp_path / "parts" / f"part-{number}.parquet", rows(5))
    bad = tmp_path / "parts" / "part-1.parquet"
    content = bytearray(bad.read_bytes())
    content[4:60] = bytes(56)
    bad.write_bytes(content)
    with pytest.raises(InputError, match=r"part-1.parquet: cannot be read after row 0"):
        score_file(bundle, tmp_path / "parts", tmp_path / "out.parquet", OPTIONS)
    bad.unlink()
    assert score_file(bundle, tmp_path / "parts", tmp_path / "out.parquet", OPTIONS).rows == 10


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"ray": "ray://head:10001"}, "--ray 'ray://head:10001': expected local, auto or HOST:PORT"),
        ({"actors": 3}, "--actors and --actor-gpus: expected with --ray only"),
        ({"ray": "local", "actor_gpus": 1, "device": "cpu"}, "--device cpu and --actor-gpus 1"),
        ({"ray": "local", "device": "cuda"}, "--device cuda and --actor-gpus 0"),
    ],
)
def test_options_that_do_not_fit_ray_are_named(words, message):
    with pytest.raises(ConfigError, match=message):
        ScoreOptions(**words)


def test_staged_rows_come_back_by_shard_in_any_process(tmp_path):
    path = tmp_path / "rows.arrow"
    with staging(path, 3, with_records=True) as made:
        for start, count in ((0, 2), (2, 5), (9, 1)):
            places = list(range(start, start + count))
            texts = [f"靴 {place}" for place in places]
            records = [{"n": place, "text": 'a"b'} for place in places]
            made.add(PairBlock(places, places, texts, texts, ["ja"] * count, records))
    staged = pickle.loads(pickle.dumps(StagedRows(path)))
    found = [staged.shard(index) for index in range(3)]
    assert [each.places.tolist() for each in found] == [[0, 1, 2], [3, 4, 5], [6, 9]]
    assert found[2][2:] == (["靴 6", "靴 9"], ["靴 6", "靴 9"], ["ja", "ja"])
    assert staged.records(2) == [b'{"n": 6, "text": "a\\"b"', b'{"n": 9, "text": "a\\"b"']
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(MachineError, match=r"rows.arrow: cannot be read .*all nodes share"):
        StagedRows(path).shard(0)


def test_a_json_output_has_the_lines_of_records_and_scores_written_together(bundle, tmp_path):
    odd = [{"note": float("nan"), "big": 2**70}, {"note": "\ud800 é"}, {"note": [1, {"a": None}]}, {"note": "é \t"}]
    odd = [{"query": "x", "candidate": f"a,b {n}"} | more for n, more in enumerate(odd)]
    found = scored(bundle, tmp_path, odd, prefix="é")
    added = [{name: value for name, value in record.items() if name.startswith("é")} for record in found]
    lines = b"".join(json_line(record | more) for record, more in zip(odd, added, strict=True))
    assert (tmp_path / "out.jsonl").read_bytes() == lines
    scored(bundle, tmp_path, odd, "plain.jsonl")
    score_file(bundle, tmp_path / "in.jsonl", tmp_path / "plain.json", OPTIONS)
    plain = [{name.removeprefix("é"): value for name, value in record.items()} for record in found]
    plain = [record | more for record, more in zip(odd, plain, strict=True)]
    lines = [json_line(record | {"note": each["note"]}) for record, each in zip(plain, odd, strict=True)]
    assert (tmp_path / "plain.jsonl").read_bytes() == b"".join(lines)
    assert (tmp_path / "plain.json").read_bytes() == b"[\n" + b",\n".join(line[:-1] for line in lines) + b"\n]\n"
