import json
import logging
import os
import signal
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from relevance.errors import CheckpointError, ConfigError, DivergedError, InputError, MachineError
from relevance.evaluation.metrics import auc
from relevance.model.card import ModelCard
from relevance.storage.locks import output_lock
from relevance.tasks import LabeledPair, Pair, Task
from tests import commands
from tests.models import tiny_model, unigram_model
from tests.skips import needs_bitsandbytes
from training.fitting.checkpoint import Job, _fitted, _open_work, dev_cosines, dev_logits, train
from training.fitting.evaluation.report import score_rows
from training.fitting.loop import finetune, snapshots
from training.fitting.loop.snapshots import STATE_FILE
from training.fitting.recipe import EncoderSection, Recipe
from training.models.base.base_models import resolve_base_model
from training.models.options import HeadOptions, LoraOptions

COLOURS = ("red", "blue", "green", "black")
THINGS = ("shoes", "cups", "lamps", "chairs", "phones")


def rows(count, start=0):
    """Pairs whose label says whether the candidate names the thing of the query."""
    made = []
    for i in range(start, start + count):
        thing, other = THINGS[i % 5], THINGS[(i + 1 + i // 5) % 5]
        language = "de" if i % 4 == 0 else "en"
        pair = Pair(f"{COLOURS[i % 4]} {thing} {i}", f"goods,{other}", language)
        made.append(LabeledPair(pair, int(thing == other), str(i)))
    return made


def recipe(base, **training):
    settings = {"epochs": 2, "batch_size": 16, "learning_rate": 2e-3, "head_learning_rate": 1e-2, "evaluations": 3}
    return Recipe.model_validate(
        {"name": "tiny", "task": "qc", "base_model": str(base), "training": settings | training, "seed": 3}
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("base"))


def weights(folder):
    return load_file(folder / "model.safetensors") | load_file(folder / "head.safetensors")


def test_a_checkpoint_holds_what_export_needs(base, tmp_path):
    card = train(Job(recipe(base), rows(80), rows(40, 80), tmp_path / "out"))
    assert ModelCard.load(tmp_path / "out") == card
    assert card.seen_languages == ("de", "en")
    assert card.fine_tuned
    assert sum(card.score_histogram) == sum(card.dev_rows.values()) == 40
    assert set(card.metrics.languages) == {"de", "en"}
    lines = (tmp_path / "out" / "dev_pairs.jsonl").read_text().splitlines()
    assert {json.loads(line)["language"] for line in lines} == {"de", "en"}
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["recipe"]["training"]["epochs"] == 2
    assert run["rows"]["train"] == {"de": 20, "en": 60}
    assert max(run["evaluations"], key=lambda e: e["dev_auc"])["step"] == run["best_step"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


@pytest.mark.parametrize(("languages", "expected"), [(["en"], 256), ([f"l{place}" for place in range(20)], 480)])
def test_a_checkpoint_has_pairs_to_calibrate_int8_whatever_the_number_of_languages(base, tmp_path, languages, expected):
    dev = [
        LabeledPair(replace(row.pair, language=languages[place % len(languages)]), place // 20 % 2, row.id)
        for place, row in enumerate(rows(700, 80))
    ]
    train(Job(recipe(base, epochs=0), rows(80), dev, tmp_path / "out"))
    lines = (tmp_path / "out" / "dev_pairs.jsonl").read_text().splitlines()
    labels = [json.loads(line)["label"] for line in lines]
    assert (len(labels), sum(labels)) == (expected, expected // 2)


def test_without_an_epoch_the_encoder_stays_and_the_head_scores_by_cosines(base, tmp_path):
    card = train(Job(recipe(base, epochs=0), rows(80), rows(40, 80), tmp_path / "out"))
    assert not card.fine_tuned
    before, after = load_file(base / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(value, after[name]) for name, value in before.items() if name in after)
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert [(e["step"], e["train_loss"]) for e in run["evaluations"]] == [(0, None)]
    assert np.std(dev_logits(tmp_path / "out")) > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_a_checkpoint_scores_as_its_metrics_say(base, tmp_path):
    dev = rows(40, 80)
    card = train(Job(recipe(base), rows(80), dev, tmp_path / "out"))
    _, scores = score_rows(tmp_path / "out", dev)
    np.testing.assert_array_equal(card.scores(dev_logits(tmp_path / "out")), scores)
    hits = sum(1 for s, r in zip(scores, dev, strict=True) if s >= card.threshold and r.label)
    said = sum(s >= card.threshold for s in scores)
    assert 2 * hits / (said + card.metrics.all.positives) == pytest.approx(card.metrics.all.f1.value)


def test_a_card_compares_the_model_with_the_cosine_by_language(base, tmp_path, caplog):
    dev = rows(160, 80)
    paired = recipe(base, epochs=12).model_copy(update={"head": HeadOptions(kind="paired")})
    with caplog.at_level(logging.INFO):
        card = train(Job(paired, rows(80), dev, tmp_path / "out"))
    cosines = dev_cosines(tmp_path / "out")
    assert set(card.cosine_gains) == {"en"}  # de has 40 rows
    english = np.array([r.pair.language == "en" for r in dev])
    labels = np.array([r.label for r in dev])
    assert card.cosine_gains["en"].cosine_auc == pytest.approx(auc(labels[english], cosines[english]))
    assert card.cosine_gains["en"].auc == pytest.approx(auc(labels[english], dev_logits(tmp_path / "out")[english]))
    assert card.cosine_auc == pytest.approx(auc(labels, cosines))
    assert card.rerank_advice == {"en": card.cosine_gains["en"].advice}
    other = train(
        Job(recipe(base).model_copy(update={"head": HeadOptions(kind="mean")}), rows(80), dev, tmp_path / "m")
    )
    assert (dev_cosines(tmp_path / "m"), other.cosine_gains) == (None, {})


def test_the_caller_can_tune_by_the_dev_logits(base, tmp_path):
    card = train(Job(recipe(base), rows(80), rows(40, 80), tmp_path / "out", tuned=False))
    assert (card.metrics, card.language_thresholds, card.findings) == (None, {}, ())
    assert dev_logits(tmp_path / "out").shape == (40,)


def test_training_learns(base, tmp_path):
    learned = recipe(base, epochs=12, evaluations=6)
    card = train(Job(learned, rows(200), rows(60, 200), tmp_path / "out"))
    assert card.metrics.all.auc.value > 0.8


def test_the_targets_are_the_shares_and_the_labels_judge(base, tmp_path):
    def shared(high, low):
        return [replace(r, extra={"label_share": high if r.label else low}) for r in rows(96)]

    spread = {}
    for name, some in (("plain", rows(96)), ("hard", shared(1, 0)), ("soft", shared(0.6, 0.4))):
        card = train(Job(recipe(base, epochs=6), some, rows(40, 80), tmp_path / name))
        spread[name] = np.ptp(dev_logits(tmp_path / name))
        assert card.metrics.all.positives == sum(r.label for r in rows(40, 80))
    assert spread["plain"] == spread["hard"]
    assert spread["soft"] < spread["plain"] / 2


def ranked_rows(count, start=0):
    """Queries of four candidates each, of which one names the thing of the query; every fifth query has no such row."""
    made = []
    for i in range(start, start + count):
        for n in range(4):
            thing = THINGS[(i + n) % 5 if n or i % 5 else (i + 4) % 5]
            pair = Pair(f"{COLOURS[i % 4]} {THINGS[i % 5]} {i}", f"goods,{thing}", "de" if i % 4 == 0 else "en")
            made.append(LabeledPair(pair, int(thing == THINGS[i % 5]), f"{i}-{n}"))
    return made


def test_lambdarank_learns_the_order_within_queries(base, tmp_path):
    some = recipe(base, epochs=10, lambdarank_weight=2)
    train(Job(some, ranked_rows(60), ranked_rows(20, 60), tmp_path / "out"))
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["ranked_queries"] == {"queries": 60, "one_class_queries": 12, "one_class_rows": 48}
    assert run["evaluations"][-1]["dev_auc"] > 0.8


def test_queries_of_one_class_alone_cannot_be_ranked(base, tmp_path):
    with pytest.raises(InputError, match="all 80 queries of the 80 training rows have rows of one target only"):
        train(Job(recipe(base, lambdarank_weight=1), rows(80), rows(40, 80), tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_teachers_margins_are_learnt(base, tmp_path):
    taught = [replace(r, extra={"label_weight": 0.01}) for r in ranked_rows(60)]
    file = tmp_path / "teacher.jsonl"
    file.write_text("".join(json.dumps({"id": r.id, "logit": -3.0 * r.label}) + "\n" for r in taught))
    found = {}
    for name, settings in (("alone", {}), ("taught", {"teacher": str(file), "teacher_weight": 1e4})):
        train(Job(recipe(base, epochs=30, **settings), taught, ranked_rows(20, 60), tmp_path / name))
        found[name] = json.loads((tmp_path / name / "run.json").read_text())["evaluations"][-1]["dev_auc"]
    assert found["alone"] > 0.6
    assert found["taught"] < 0.4  # this teacher says the opposite of the labels


def test_rows_that_the_teacher_lacks_are_named_before_training(base, tmp_path):
    file = tmp_path / "teacher.csv"
    file.write_text("id,score\n1,0.5\n")
    with pytest.raises(
        InputError, match=r"lacks 79 of 80 training rows; all their ids are in .*out\.teacher_lacks\.txt"
    ):
        train(Job(recipe(base, teacher=str(file)), rows(80), rows(40, 80), tmp_path / "out"))
    assert len((tmp_path / "out.teacher_lacks.txt").read_text().split()) == 79


def test_copies_weigh_as_one_row(base, tmp_path):
    made = [replace(r, id=f"{r.id}~xx", extra={"source": "translation", "source_id": r.id}) for r in rows(40)]
    weighted = [replace(r, extra=r.extra | {"label_weight": 0.5}) for r in [*rows(40), *made]]
    train(Job(recipe(base, copies_as_one=True), [*rows(80), *made], rows(40, 80), tmp_path / "as_one"))
    by_hand = [*weighted[:40], *rows(40, 40), *weighted[40:]]
    train(Job(recipe(base), by_hand, rows(40, 80), tmp_path / "by_hand"))
    first, second = dev_logits(tmp_path / "as_one"), dev_logits(tmp_path / "by_hand")
    assert np.corrcoef(first, second)[0, 1] > 0.99


def test_equal_seeds_give_equal_weights_and_others_do_not(base, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        job = Job(recipe(base).model_copy(update={"seed": seed}), rows(48), rows(40, 80), tmp_path / name)
        train(job)
    first, same, other = (weights(tmp_path / name) for name in "abc")
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_frozen_word_embeddings_stay(base, tmp_path):
    train(Job(recipe(base), rows(48), rows(40, 80), tmp_path / "out"))
    key = "embeddings.word_embeddings.weight"
    before = load_file(base / "model.safetensors")
    after = load_file(tmp_path / "out" / "model.safetensors")
    assert torch.equal(before[key], after[key])
    other = "encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(before[other], after[other])


def test_word_embeddings_of_the_rows_alone_are_trained(base, tmp_path):
    key = "embeddings.word_embeddings.weight"
    before = load_file(base / "model.safetensors")[key]
    card = train(Job(switched(base, trained=True), rows(48), rows(40, 80), tmp_path / "out"))
    after = load_file(tmp_path / "out" / "model.safetensors")[key]
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    seen = {
        i
        for texts in [card.format.texts(card.task, row.pair) for row in rows(48)]
        for i in tokenizer.encode(*texts).ids
    }
    changed = (after != before).any(dim=1)
    assert changed.any()
    assert {*torch.nonzero(changed)[:, 0].tolist()} <= seen


KILLED = """
import sys, os, signal, json
from pathlib import Path
from training.fitting.loop import finetune, snapshots
from tests.unit.training.fitting.loop.test_finetune import recipe, rows, switched
from training.fitting.checkpoint import Job, train
snapshots.SNAPSHOT_SECONDS = 0.0
step = finetune.FineTuner._step
def slow(self, *arguments):
    if self._snapshots._path.exists() and os.environ.get("DIE"):
        self.count = getattr(self, "count", 0) + 1
        if self.count > 6:
            os.kill(os.getpid(), signal.SIGKILL)
    return step(self, *arguments)
finetune.FineTuner._step = slow
switches = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
train(Job(switched(sys.argv[1], **switches), rows(80), rows(40, 80), Path(sys.argv[2])))
"""
SWITCHES = [
    {},
    {"trained": True, "evaluations": 6},
    {"rank": 4, "micro_batch_size": 5, "gradient_checkpointing": True},
    pytest.param({"rank": 4, "load_in_4bit": True, "gradient_checkpointing": True}, marks=needs_bitsandbytes),
]


def switched(base, *, trained=False, rank=0, load_in_4bit=False, **training):
    made = recipe(base, **training)
    lora = LoraOptions(rank=rank, load_in_4bit=load_in_4bit)
    return made.model_copy(update={"encoder": EncoderSection(freeze_word_embeddings=not trained), "lora": lora})


@pytest.mark.parametrize("switches", SWITCHES)
def test_a_killed_run_goes_on_to_the_same_weights(base, tmp_path, caplog, switches):
    def run(out, **environment):
        command = [sys.executable, "-c", KILLED, str(base), str(out), json.dumps(switches)]
        return commands.run(command, env={**os.environ, **environment})

    killed = run(tmp_path / "killed", DIE="1")
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed").exists()
    with caplog.at_level("INFO"):
        train(Job(switched(base, **switches), rows(80), rows(40, 80), tmp_path / "killed"))
    resumed = [record.args[0] for record in caplog.records if record.msg.startswith("resuming after step")]
    assert len(resumed) == 1
    assert resumed[0] > 0
    train(Job(switched(base, **switches), rows(80), rows(40, 80), tmp_path / "whole"))
    first, second = weights(tmp_path / "killed"), weights(tmp_path / "whole")
    assert all(torch.equal(first[key], second[key]) for key in first)
    np.testing.assert_array_equal(dev_logits(tmp_path / "killed"), dev_logits(tmp_path / "whole"))


def test_the_work_of_another_job_is_not_taken_up(base, tmp_path, caplog):
    work = tmp_path / ".out.work"
    work.mkdir()
    (work / "fingerprint").write_text("another")
    (work / "state.pt").write_bytes(b"not a state")
    with caplog.at_level("INFO"):
        train(Job(recipe(base), rows(48), rows(40, 80), tmp_path / "out"))
    assert "starting over" in caplog.text


def test_early_stop(base, tmp_path):
    stopped = recipe(base, epochs=40, evaluations=40, patience=2, learning_rate=1e-9, head_learning_rate=1e-9)
    train(Job(stopped, rows(48), rows(40, 80), tmp_path / "out"))
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert len(run["evaluations"]) < 10


def test_divergence_is_an_error_and_leaves_no_checkpoint(base, tmp_path):
    wild = recipe(base, learning_rate=1e30, head_learning_rate=1e30)
    with pytest.raises(DivergedError, match="learning_rate"):
        train(Job(wild, rows(80), rows(40, 80), tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_pairs_longer_than_the_models_positions_are_refused(base, tmp_path):
    with pytest.raises(ConfigError, match="max_length 200: the model has 130 positions"):
        train(Job(recipe(base, max_length=200), rows(80), rows(40, 80), tmp_path / "out"))


def test_the_work_on_another_base_model_is_not_taken_up(tmp_path, caplog):
    base = tiny_model(tmp_path / "base")
    job = Job(recipe(base), rows(80), rows(40, 80), tmp_path / "out")
    command = [sys.executable, "-c", KILLED, str(base), str(job.out)]
    assert commands.run(command, env={**os.environ, "DIE": "1"}).returncode == -signal.SIGKILL
    assert (tmp_path / ".out.work").exists()
    tiny_model(base, seed=9)
    with caplog.at_level("INFO"):
        train(job)
    assert "starting over" in caplog.text


def test_an_existing_output_is_kept(base, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(ConfigError, match="exists already"):
        train(Job(recipe(base), rows(8), rows(8), tmp_path / "out"))


def test_an_empty_folder_is_filled(base, tmp_path):
    (tmp_path / "out").mkdir()
    train(Job(recipe(base), rows(48), rows(8, 40), tmp_path / "out"))
    assert ModelCard.load(tmp_path / "out").task is Task.QC


def test_one_class_is_refused(base, tmp_path):
    yes = [row for row in rows(80) if row.label]
    with pytest.raises(InputError, match="expected both 0 and 1"):
        train(Job(recipe(base), yes, rows(8), tmp_path / "out"))


@pytest.mark.parametrize(("weights", "left"), [((0, 0), r"\[\]"), ((0.0, "0.5"), r"\[1\]")])
def test_labels_of_rows_that_weigh_nothing_do_not_count(base, tmp_path, weights, left):
    weighed = [replace(row, extra={"label_weight": weights[row.label]}) for row in rows(80)]
    with pytest.raises(InputError, match=f"train set: 80 rows with labels {left}; expected both 0 and 1"):
        train(Job(recipe(base), weighed, rows(8), tmp_path / "out"))


def test_separator_of_paths_is_found_in_training_rows_and_kept(base, tmp_path):
    def parted(some):
        return [replace(r, pair=replace(r.pair, candidate=r.pair.candidate.replace(",", " > "))) for r in some]

    card = train(Job(recipe(base), parted(rows(48)), parted(rows(40, 80)), tmp_path / "out"))
    assert card.format.path_separator == " > "
    assert ModelCard.load(tmp_path / "out").format.candidate_text(Task.QC, "goods>cups, red") == "goods > cups, red"


def test_vocabulary_is_trimmed_on_train_alone(tmp_path):
    base = unigram_model(tmp_path / "base", ["shoes", "zebra"])
    dev = [replace(r, pair=replace(r.pair, query=f"{r.pair.query} zebra")) for r in rows(40, 80)]
    trimmed = recipe(base).model_copy(update={"encoder": EncoderSection(trim_vocabulary=True)})
    train(Job(trimmed, rows(48), dev, tmp_path / "out"))
    vocabulary = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json")).get_vocab()
    assert "▁shoes" in vocabulary
    assert "▁zebra" not in vocabulary


@pytest.mark.parametrize("change", ["recipe", "seed", "training rows", "dev rows", "base model", "none"])
def test_a_snapshot_belongs_to_its_job(base, tmp_path, caplog, change):
    job, model = Job(recipe(base), rows(40), rows(8, 40), tmp_path / "out"), resolve_base_model(str(base))
    work = tmp_path / ".out.work"
    _open_work(work, job, model)
    for name in (STATE_FILE, f".{STATE_FILE}.half"):
        (work / name).write_bytes(b"a snapshot")
    other = {
        "recipe": lambda: (replace(job, recipe=recipe(base, epochs=3)), model),
        "seed": lambda: (replace(job, recipe=job.recipe.model_copy(update={"seed": 4})), model),
        "training rows": lambda: (replace(job, train=rows(39)), model),
        "dev rows": lambda: (replace(job, dev=rows(9, 40)), model),
        "base model": lambda: (job, replace(model, revision="another")),
        "none": lambda: (job, model),
    }[change]()
    with caplog.at_level("INFO"):
        _open_work(work, *other)
    assert (work / STATE_FILE).exists() == (change == "none")
    assert not (work / f".{STATE_FILE}.half").exists()
    told = [record.getMessage() for record in caplog.records]
    assert [line.partition(" differ")[0] for line in told] == ([] if change == "none" else [change])


def test_a_second_run_on_one_output_is_refused(base, tmp_path):
    with output_lock(tmp_path / "out"), pytest.raises(MachineError, match="out: in use by process"):
        train(Job(recipe(base), rows(48), rows(8, 40), tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_a_result_that_came_during_training_is_kept(base, tmp_path, monkeypatch):
    def finish(self, dev):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "card.json").write_text("of another")
        return finished(self, dev)

    finished = finetune.FineTuner._finish
    monkeypatch.setattr(finetune.FineTuner, "_finish", finish)
    with pytest.raises(ConfigError, match="exists already"):
        train(Job(recipe(base), rows(48), rows(8, 40), tmp_path / "out"))
    assert (tmp_path / "out" / "card.json").read_text() == "of another"


def test_snapshots_keep_to_their_share_of_time_and_bytes():
    assert snapshots.snapshot_wait(0.1, 1_000) == 60
    assert snapshots.snapshot_wait(9.0, 1_000) == pytest.approx(180)  # 5 % of the time
    assert snapshots.snapshot_wait(0.5, 1_600_000_000) == 200  # half a gigabyte a minute


def test_a_snapshot_that_cannot_be_read_is_named(base, tmp_path):
    job = Job(recipe(base), rows(40), rows(8, 40), tmp_path / "out")
    _open_work(tmp_path / ".out.work", _fitted(job), resolve_base_model(str(base)))
    (tmp_path / ".out.work" / STATE_FILE).write_bytes(b"no snapshot")
    with pytest.raises(CheckpointError, match=r"state\.pt: cannot be read"):
        train(job)
