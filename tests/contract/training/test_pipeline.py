"""`relevance pipeline` on a small pipeline with a real (tiny, random) encoder: what is redone, kept, shown, refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from relevance.errors import CheckpointError, ConfigError, InputError, MachineError
from relevance.model.bundle import Bundle
from relevance.tasks import LabeledPair, Pair, Task, query_key
from tests.pipelines import labelled, load, run, write_inputs
from training.data.groups import linked_groups
from training.data.splits import write_pairs
from training.fitting import checkpoint
from training.fitting.evaluation.report import score_rows
from training.pipeline.own_ids import with_own_ids
from training.pipeline.run import Pipeline
from training.pipeline.show import describe_row, describe_run, read_run
from training.pipeline.stages import STAGES
from training.pipeline.store import Ingredients, Store
from training.pipeline.summary import summary
from training.pipeline.tables import open_rows
from training.transfer import stage


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run and its inputs."""
    folder = tmp_path_factory.mktemp("pipeline")
    recipe = load(write_inputs(folder))
    Pipeline(recipe, Store(folder / "out")).run()
    return folder


def again(folder, *overrides):
    """Run once more over the same store; return the stages that were made and those that were found."""
    store = Store(folder / "out")
    outcome = Pipeline(load(folder / "recipe.toml", *overrides), store).evaluate()
    return set(store.made), set(store.found), outcome


def rows_of(folder, stage, part="train"):
    return open_rows(read_run(folder / "out").stages[stage].file(f"{part}.parquet"), Task.QC)


def test_every_stage_does_its_work(folder):
    stages = read_run(folder / "out").stages
    assert list(stages) == [
        *("read", "clean", "split", "translate", "mine", "filter", "train", "score", "calibrate", "evaluate", "card")
    ]
    counts = {name: len(rows_of(folder, name)) for name in ("split", "translate", "mine", "filter")}
    assert counts["split"] < counts["translate"] < counts["mine"] > counts["filter"]
    sources = {row.extra.get("source") for row in rows_of(folder, "mine")}
    assert sources == {None, "translation", "negative"}


def transferring(folder, *overrides):
    """Run once more with transfer; return the stages made, the stage's result, and the rows that it added."""
    options = ["enabled=true", f'memories=["{folder}/memory.jsonl"]', 'targets=["de"]', "per_text=2"]
    made, _, outcome = again(folder, *(f"transfer.{option}" for option in options), *overrides)
    result = outcome.stages["transfer"]
    rows = open_rows(result.file("train.parquet"), Task.QC)
    return made, result, [row for row in rows if row.extra.get("source") == "transfer"]


def test_a_model_that_is_trained_first_labels_translated_texts(folder, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    trained, real = [], checkpoint.train
    with monkeypatch.context() as dying:
        dying.setattr(stage, "transfer", interrupted)
        with pytest.raises(KeyboardInterrupt):
            transferring(folder)
    monkeypatch.setattr(checkpoint, "train", lambda job: trained.append(job.out.name) or real(job))
    made, result, rows = transferring(folder)
    assert made == {"transfer", "train", "score", "calibrate", "evaluate"}
    assert trained == ["checkpoint"]  # the teacher was there, from the interrupted run
    assert len(rows) == result.manifest.report["made"]["de"] > 0
    assert {row.pair.language for row in rows} == {"de"}
    held = {query_key(row.pair.query) for part in ("dev", "test") for row in rows_of(folder, "split", part)}
    assert not held & {query_key(text) for row in rows for text in (row.pair.query, row.extra["translation_of"])}
    pairs = [(query_key(row.pair.query), row.pair.candidate) for row in rows_of(folder, "filter")]
    assert not {(query_key(row.pair.query), row.pair.candidate) for row in rows} & set(pairs)
    assert f"{len(pairs):,} rows in, {len(pairs) + len(rows):,} out" in summary(result)
    assert not (result.folder / "teacher").exists()
    assert transferring(folder)[0] == set()


def test_the_model_without_transfer_is_the_teacher_that_is_trained_first(folder):
    teacher = folder / "out" / "checkpoint"
    made, result, rows = transferring(folder, f"transfer.teacher={teacher}")
    assert made >= {"transfer"}
    assert result.manifest.options["transfer"]["teacher"].startswith("checkpoint ")
    assert rows == transferring(folder)[2]
    asked = [replace(row, pair=Pair(row.extra["translation_of"], row.pair.candidate, "en")) for row in rows]
    shares = [row.extra["label_share"] for row in rows]
    assert shares == pytest.approx(score_rows(teacher, asked)[1].tolist(), abs=1e-3)


def test_a_rerun_makes_nothing(folder):
    made, found, outcome = again(folder)
    assert made == set()
    assert "filter" in found
    assert outcome.evaluated_on == "test"


def test_a_changed_threshold_costs_no_training(folder):
    made, found, _ = again(folder, "calibration.threshold=0.5")
    assert made == {"calibrate", "evaluate"}
    assert {"filter", "score"} <= found


def test_options_that_change_no_row_cost_their_stage_alone(folder):
    made, _, _ = again(folder, "cleaning.further_languages=['de']")
    assert made == {"clean"}


def test_a_changed_memory_is_noticed(folder):
    memory = folder / "memory.jsonl"
    kept = memory.read_text()
    memory.write_text(kept.replace("schuhe", "stiefel"))
    try:
        made, found, _ = again(folder)
    finally:
        memory.write_text(kept)
    assert {"translate", "train"} <= made
    assert "split" in found


def test_no_query_is_in_two_splits(folder):
    rows = {part: rows_of(folder, "split", part) for part in ("train", "dev", "test")}
    keys = [{query_key(row.pair.query) for row in part} for part in rows.values()]
    assert not keys[0] & keys[1] | keys[0] & keys[2] | keys[1] & keys[2]


def test_rows_linked_with_dev_are_left_out_of_train(tmp_path):
    recipe = write_inputs(tmp_path)
    held = tmp_path / "dev.jsonl"
    lines = (tmp_path / "train.jsonl").read_text().splitlines()
    held.write_text("\n".join(lines[:16]) + "\n")
    made = json.loads(lines[0]) | {"id": "x", "origin_query": "ganz anders", "source_id": json.loads(lines[0])["id"]}
    with (tmp_path / "train.jsonl").open("a") as stream:
        stream.write(json.dumps(made) + "\n")
    overrides = [f"data.dev=['{held}']", "translation.enabled=false", "filtering.enabled=false"]
    pipeline = Pipeline(load(recipe, *overrides), Store(tmp_path / "out"))
    data = pipeline.datasets()
    dev = {query_key(row.pair.query) for row in data.dev}
    assert not any(query_key(row.pair.query) in dev for row in data.train)
    assert "x" not in {row.id for row in data.train}
    assert len(set(linked_groups(data.train)) & dev) == 0


def test_dev_queries_are_known_in_the_form_that_cleaning_gives_them(tmp_path):
    rows = labelled(120)
    marked = [replace(row, pair=replace(row.pair, query=f"{row.pair.query} &amp; more")) for row in rows]
    recipe = write_inputs(tmp_path)
    write_pairs(tmp_path / "train.jsonl", marked, Task.QC)
    write_pairs(tmp_path / "dev.jsonl", marked[:24], Task.QC)
    overrides = [f"data.dev=['{tmp_path / 'dev.jsonl'}']", "translation.enabled=false", "filtering.enabled=false"]
    data = Pipeline(load(recipe, *overrides), Store(tmp_path / "out")).datasets()
    held = {row.pair.query.replace("&amp;", "&") for row in data.dev}
    assert not held & {row.pair.query for row in data.train}


def test_dev_and_test_rows_split_from_training_stay_as_they_came(tmp_path):
    rows = [replace(row, pair=replace(row.pair, query=f"{row.pair.query} &amp; more")) for row in labelled(120)]
    recipe = write_inputs(tmp_path)
    write_pairs(tmp_path / "train.jsonl", rows, Task.QC)
    data = Pipeline(
        load(recipe, "translation.enabled=false", "filtering.enabled=false"), Store(tmp_path / "o")
    ).datasets()
    assert all("&amp;" in row.pair.query for row in data.held_out)
    assert not any("&amp;" in row.pair.query for row in data.train)


def test_files_that_number_their_rows_alike_keep_them_apart(tmp_path):
    made = LabeledPair(Pair("tassen", "home,cups", "de"), 1, "9", {"source_id": "1"})
    files = [[*labelled(3)], [*labelled(3), made, labelled(3)[0]]]
    rows, changed = with_own_ids(files)
    assert [row.id for row in rows] == ["0", "1", "2", "0@2", "1@2", "2@2", "9", "0@2#2"]
    assert changed == 4
    assert rows[6].extra == {"source_id": "1@2"}


def test_a_test_set_of_one_class_is_evaluated_without_auc(tmp_path):
    recipe = write_inputs(tmp_path)
    write_pairs(tmp_path / "test.jsonl", [row for row in labelled(40) if row.label], Task.QC)
    overrides = [f"data.test=['{tmp_path / 'test.jsonl'}']", "filtering.enabled=false"]
    outcome = Pipeline(load(recipe, *overrides), Store(tmp_path / "out")).evaluate()
    assert outcome.report.all.auc.value is None
    assert "AUC -" in summary(outcome.stages["evaluate"])


def test_held_out_languages_are_left_out_where_all_files_are_given(tmp_path):
    recipe = write_inputs(tmp_path)
    rows = [replace(r, pair=replace(r.pair, language="de")) if n % 6 < 2 else r for n, r in enumerate(labelled(120))]
    for name, part in (("train", rows[:80]), ("dev", rows[80:100]), ("test", rows[100:])):
        write_pairs(tmp_path / f"{name}.jsonl", part, Task.QC)
    files = [f"data.{part}=['{tmp_path / f'{part}.jsonl'}']" for part in ("dev", "test")]
    off = ["translation.enabled=false", "filtering.enabled=false", "cleaning.tags=off"]
    chosen = load(recipe, *files, *off, "split.held_out_languages=['de']")
    data = Pipeline(chosen, Store(tmp_path / "out")).datasets()
    assert {row.pair.language for row in data.train} == {"en"}


def test_a_new_name_reaches_the_card(folder):
    outcome = Pipeline(load(folder / "recipe.toml", "name=second"), Store(folder / "out")).run()
    card = json.loads(outcome.stages["card"].file("checkpoint").joinpath("card.json").read_text())
    assert card["name"] == "second"


def test_a_dropped_result_is_gone_whole(folder):
    store = Store(folder / "out")
    found = store.run(Ingredients("demo", {}, {}), lambda work: {"rows": 1})
    store.drop(found)
    store.drop(found)
    assert store.get("demo", found.manifest.key) is None


def test_weights_that_were_dropped_are_made_again_only_where_they_are_needed(tmp_path):
    recipe, off = write_inputs(tmp_path), ["filtering.enabled=false", "negatives.enabled=false"]
    first = Pipeline(load(recipe, *off), Store(tmp_path / "out")).evaluate(keep_checkpoint=False)
    assert not first.stages["train"].file("checkpoint").exists()
    store = Store(tmp_path / "out")
    Pipeline(load(recipe, *off, "calibration.threshold=0.5"), store).evaluate(keep_checkpoint=False)
    assert store.made == ["calibrate", "evaluate"]
    store = Store(tmp_path / "out")
    again = Pipeline(load(recipe, *off), store).run()
    assert store.made == ["train", "card"]
    assert again.report == first.report


def test_a_stage_reads_no_input_that_it_does_not_declare(folder, monkeypatch):
    def reads_too_much(run):
        return {"rows": len(run.rows("dev.parquet"))}

    monkeypatch.setitem(STAGES, "clean", replace(STAGES["clean"], make=reads_too_much))
    with pytest.raises(KeyError, match=r"dev\.parquet"):
        Pipeline(load(folder / "recipe.toml"), Store(folder / "undeclared")).result("clean")


def test_tuning_is_in_the_card_and_leaves_the_trained_checkpoint_as_it_was(folder):
    stages = read_run(folder / "out").stages
    tuned, trained = (
        json.loads(stages[name].file("checkpoint").joinpath("card.json").read_text()) for name in ("card", "train")
    )
    assert tuned["calibration"] == stages["calibrate"].manifest.report["calibration"]
    assert trained["calibration"] == {"scale": 1.0, "offset": 0.0, "by_language": {}}
    assert stages["card"].file("checkpoint").joinpath("dev_cosines.npy").is_file()
    assert tuned["metrics"]["all"]["rows"] == len(rows_of(folder, "split", "test"))


def test_the_bundle_carries_what_was_tuned(folder):
    outcome = Pipeline(load(folder / "recipe.toml", "export.enabled=true"), Store(folder / "out")).run()
    bundle = Bundle.open(outcome.stages["export"].file("bundle"))
    manifest = bundle.manifest
    assert manifest.reports == ("data.html", "evaluation.html")
    assert f"AUC {manifest.metrics.all.auc:.3f}" in bundle.report("evaluation.html").decode()
    assert all(f">{name}.parquet<" in bundle.report("data.html").decode() for name in ("train", "dev", "test"))
    assert manifest.threshold == outcome.tuned.threshold
    assert manifest.calibration == outcome.tuned.calibration
    assert manifest.metrics == outcome.report
    assert sum(manifest.dev_rows.values()) == sum(manifest.score_histogram) == outcome.tuned.dev_rows
    assert outcome.products == {name: folder / "out" / name for name in ("checkpoint", "bundle")}
    assert Bundle.open(folder / "out" / "bundle").manifest == manifest


def test_a_link_leads_to_the_last_result_and_never_replaces_what_is_no_link(tmp_path):
    store = Store(tmp_path)
    for name in ("a", "b"):
        (tmp_path / "stages" / name).mkdir(parents=True)
        assert store.link("bundle", tmp_path / "stages" / name) == tmp_path / "bundle"
    assert (tmp_path / "bundle").readlink() == Path("stages/b")
    (tmp_path / "checkpoint").mkdir()
    assert store.link("checkpoint", tmp_path / "stages" / "b") == tmp_path / "stages" / "b"
    assert not (tmp_path / "checkpoint").is_symlink()


def test_show_tells_each_stage_and_the_way_of_a_row(folder):
    last = read_run(folder / "out")
    assert [line.stage for line in describe_run(last)] == list(last.stages)
    negative = next(row for row in rows_of(folder, "mine") if row.extra.get("source") == "negative")
    told = "\n".join(map(str, describe_row(last, negative.id)))
    assert "mine      in train" in told
    assert "read      in train" in told  # the row that it was made of
    with pytest.raises(InputError, match="no stage of this run has a row"):
        describe_row(last, "nobody")


def test_two_runs_in_one_folder_are_refused(tmp_path):
    with Store(tmp_path).locked(), pytest.raises(MachineError, match="in use by process"), Store(tmp_path).locked():
        pass


def test_commands_run_and_show(folder):
    done = run("run", folder / "recipe.toml", folder / "out")
    assert done.returncode == 0, done.stderr
    assert "tiny on test" in done.stdout
    assert "evaluate: AUC" in done.stderr
    shown = run("show", folder / "out", "--json")
    assert next(line["stage"] for line in json.loads(shown.stdout)) == "read"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.train=[]"], "data.train: no file is given"),
        (["data.train=['nowhere.jsonl']"], "nowhere.jsonl: cannot be read"),
        (["translation.backends=['memory:nowhere.tsv']"], "nowhere.tsv: cannot be read"),
        (["translation.targets=['xx']"], "xx"),
        (["data.languages=['ko']"], "no training row has it"),
        (["translation.enabled=true", "translation.backends=[]"], "enabled without backends"),
        (["mining.enabled=true"], "mining"),
        (["filtering.control=true", "filtering.action=weight"], "expected drop"),
        (["filtering.models=[{judge='probe', settings={seed=1}}]"], "expected judge crossencoder"),
    ],
)
def test_wrong_recipes_are_refused_by_name(folder, overrides, message):
    with pytest.raises((ConfigError, InputError), match=message):
        Pipeline(load(folder / "recipe.toml", *overrides), Store(folder / "other")).evaluate()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["negatives.vet=nowhere"], "negatives.vet nowhere: no such folder"),
        (["transfer.teacher=nowhere"], "transfer.teacher nowhere: no such folder"),
        (["transfer.teacher={folder}/encoder"], r"encoder: no card\.json"),
        (["transfer.teacher={folder}/out/checkpoint", "task=qi"], "is a model for qc; expected one for qi"),
        (["transfer.memories=['{folder}/nowhere.tmx']"], r"nowhere\.tmx: cannot be read"),
        (["transfer.memories=['{folder}/recipe.toml']"], r"recipe\.toml: format '\.toml'"),
        (["transfer.targets=[]"], "transfer: enabled without targets or memories"),
        (["model=probe"], "transfer.teacher: absent with model 'probe'"),
    ],
)
def test_models_and_memories_of_late_stages_are_refused_before_the_first(folder, tmp_path, overrides, message):
    whole = ["transfer.enabled=true", "transfer.targets=['de']", "transfer.memories=['{folder}/memory.jsonl']"]
    names = {each.partition("=")[0] for each in overrides}
    kept = [each for each in whole if each.partition("=")[0] not in names]
    given = [each.format(folder=folder) for each in (*kept, *overrides)]
    with pytest.raises((CheckpointError, ConfigError, InputError), match=message):
        Pipeline(load(folder / "recipe.toml", *given), Store(tmp_path / "out")).evaluate()
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_mined_is_refused_and_finished_stages_stay(folder):
    store = Store(folder / "other")
    overrides = ["negatives.strategy=hard", "negatives.band_low=0.999", "negatives.band_high=1.0"]
    with pytest.raises(ConfigError, match=r"none of the .* wanted can be made"):
        Pipeline(load(folder / "recipe.toml", *overrides), store).evaluate()
    assert {"read", "clean", "split", "translate"} <= {
        path.name.split("-")[0] for path in (store.folder / "stages").iterdir()
    }


def test_the_seed_of_filtering_is_its_own(folder):
    before = read_run(folder / "out").stages["filter"].manifest
    made, found, outcome = again(folder, "filtering.seed=1")
    assert "filter" in made
    assert {"split", "translate", "mine"} <= found
    after = outcome.stages["filter"].manifest
    assert (before.options["filtering"]["seed"], after.options["filtering"]["seed"]) == (0, 1)
    assert before.options["seed"] == after.options["seed"]


def test_a_result_that_was_edited_is_refused(folder):
    path = read_run(folder / "out").stages["split"].file("train.parquet")
    kept = path.read_bytes()
    path.write_bytes(kept[:-1])
    try:
        with pytest.raises(InputError, match=r"train\.parquet is not as it was made"):
            again(folder)
    finally:
        path.write_bytes(kept)


def test_bad_rows_of_all_files_are_named_at_once_or_left_out_into_files_of_the_stage(tmp_path, caplog):
    recipe, dev = write_inputs(tmp_path), tmp_path / "dev.jsonl"
    with (tmp_path / "train.jsonl").open("a") as stream:
        stream.write('{"origin_query": "", "category_path": "home,cups", "label": 1}\n{"label": 1}\n')
    write_pairs(dev, labelled(12), Task.QC)
    dev.write_text(dev.read_text() + "no json\n")
    given = [f"data.dev=['{dev}']", f"data.test=['{dev}']"]
    with pytest.raises(InputError) as error:
        Pipeline(load(recipe, *given), Store(tmp_path / "out")).result("read")
    for part in ("train.jsonl: 2 bad of 122 rows", "dev.jsonl: 1 bad of 13 rows", "row 121: empty text, origin_query"):
        assert part in str(error.value)

    given = [given[0], "data.skip_bad_rows=true"]
    for _ in ("made", "found"):
        with caplog.at_level("INFO"):
            done = Pipeline(load(recipe, *given), Store(tmp_path / "out")).result("read")
        assert done.manifest.report["bad_rows"] == {"bad_rows.train1.jsonl": 2, "bad_rows.dev1.jsonl": 1}
        assert f"2 bad rows left out, {done.file('bad_rows.train1.jsonl')}" in caplog.text
        caplog.clear()
    found = [json.loads(line) for line in done.file("bad_rows.train1.jsonl").read_text().splitlines()]
    assert {each["row"] for each in found} == {121, 122}
    assert json.loads(done.file("bad_rows.dev1.jsonl").read_text())["raw"] == "no json"
    assert sorted(path.name for path in done.folder.glob("bad_rows*")) == [
        "bad_rows.dev1.jsonl",
        "bad_rows.train1.jsonl",
    ]
