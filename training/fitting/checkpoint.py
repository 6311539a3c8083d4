"""From rows and a recipe to a checkpoint folder: base model, fine-tuning, threshold, metrics, card. Made whole or not.

The folder is an ordinary transformers checkpoint with these files beside: `card.json` (relevance.model.card),
`head.safetensors` (absent with the stock head), `prior.json` (if the head reads a category prior), `dev_pairs.jsonl`,
dev pairs of every language from which export takes its golden pairs, `dev_logits.npy`, the logits of all dev rows,
`dev_cosines.npy`, the cosines of all dev rows in the untrained model (paired and kernel heads), and `run.json`, how the
run went.
"""

import json
import logging
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from relevance.errors import InputError
from relevance.evaluation.metrics import auc
from relevance.model.card import DEV_PAIRS_FILE, ModelCard
from relevance.model.heads import HeadKind
from relevance.model.inputs import PairInputs
from relevance.storage.files import whole_folder
from relevance.storage.locks import output_lock
from relevance.storage.outputs import check_outputs
from relevance.tasks import LabeledPair, Pair
from relevance.text.tokenization import PairTokenizer
from training.data.groups import linked_groups
from training.data.labels.weights import weight_column
from training.data.provenance import content_of, fingerprint, now, source_commit
from training.data.stored.rows import candidates_of, labels_of, on_disk, strata_of
from training.fitting.evaluation.calibration import Dev, Unlabelled, tune, with_findings, with_tuning
from training.fitting.evaluation.options import CalibrationOptions
from training.fitting.evaluation.report import report_model
from training.fitting.evaluation.thresholds import seen_languages
from training.fitting.loop.finetune import FineTuner, Outcome
from training.fitting.loop.precision import resolve_precision, training_device
from training.fitting.loop.snapshots import open_work
from training.fitting.loop.team import resolve_processes
from training.fitting.loop.workers import team_of
from training.fitting.packages import check_packages
from training.fitting.preparing import encoder_options
from training.fitting.recipe import Recipe, TrainingSection
from training.fitting.rows.examples import Examples, store_examples, token_ids
from training.fitting.rows.prior import FittedPrior, fit_prior
from training.fitting.rows.row_facts import RowFacts, facts_of
from training.fitting.rows.truncation import encode_rows, tell_findings
from training.fitting.servable import check_base
from training.fitting.untrained import follow, untrained
from training.models.base.base_models import BaseModel, resolve_base_model
from training.models.base.prepared import prepare_encoder
from training.models.cross_encoder import CrossEncoder, predict_logits
from training.models.head_start import scalars, set_head
from training.sources import code_key

log = logging.getLogger(__name__)

DEV_PAIRS_A_LANGUAGE, LEAST_DEV_PAIRS = 24, 256  # at least so many: int8 is calibrated and checked on them
DEV_LOGITS_FILE, DEV_COSINES_FILE = "dev_logits.npy", "dev_cosines.npy"
TRAIN_FOLDER, DEV_FOLDER = "train", "dev"  # in the work folder: rows as numbers


@dataclass(frozen=True)
class Job:
    """What to train on and where to put it; `unlabelled` pairs serve for thresholds of languages without labels.

    Without `tuned` the card has neither thresholds nor metrics: the caller tunes by the dev logits.
    """

    recipe: Recipe
    train: Sequence[LabeledPair]
    dev: Sequence[LabeledPair]
    out: Path
    unlabelled: Sequence[Pair] = ()
    tuned: bool = True

    @property
    def lacking(self) -> Path:
        """Where the ids of rows go that a teacher lacks."""
        return self.out.with_name(f"{self.out.name}.teacher_lacks.txt")


def train(job: Job, *, overwrite: bool = False) -> ModelCard:
    """Fine-tune and write the checkpoint folder `job.out`; an interrupted run of the same job continues.

    Raises ConfigError where `out` exists and may not be replaced, InputError where rows or classes are missing,
    MachineError where another run is writing `out` or the disk is full.
    """
    with output_lock(job.out):
        check_outputs([job.out], overwrite=overwrite)
        check_packages(job.recipe)
        job = replace(job, train=on_disk(job.train))
        _check(job)
        return _train(_fitted(job), overwrite)


def dev_logits(checkpoint: Path) -> NDArray[np.float32]:
    """Return the logits [N] that a checkpoint gives the dev rows it was trained with, in their order."""
    return np.load(checkpoint / DEV_LOGITS_FILE)


def dev_cosines(checkpoint: Path) -> NDArray[np.float64] | None:
    """Return the cosines [N] of query and candidate of the dev rows in the base model; None without segments."""
    file = checkpoint / DEV_COSINES_FILE
    return np.load(file) if file.is_file() else None


def _train(job: Job, overwrite: bool) -> ModelCard:
    facts = facts_of(job.train, job.recipe.training, job.lacking)
    base = resolve_base_model(job.recipe.base_model)
    check_base(job.recipe, base)
    work = job.out.parent / f".{job.out.name}.work"
    _open_work(work, job, base)
    encoder = _prepare(job, base, work)
    torch.manual_seed(job.recipe.seed)
    made = untrained(job.recipe, encoder)
    model, tokenizer = made.model.to(training_device()), made.tokenizer
    prior = fit_prior(job.train, job.recipe.format, job.recipe.seed) if model.spec.prior else None
    inputs = PairInputs(job.recipe.task, job.recipe.format, tokenizer, model.spec.overlap, prior and prior.table)
    examples, dev = _examples(job, inputs, work, facts, prior)
    with _reading(model, job.recipe.training):
        set_head(model, tokenizer, examples.pairs, examples.targets, examples.weights, job.recipe.seed)
    cosines = _cosines(model, tokenizer, dev)
    processes, ids = resolve_processes(job.recipe.training.processes), token_ids(examples, dev)
    with team_of(processes, work, follow, job.recipe, work, encoder, work / TRAIN_FOLDER, ids) as team:
        tuner = FineTuner(model, tokenizer, job.recipe.training, job.recipe.seed, work, team)
        outcome = tuner.run(examples, dev)
    card = _card(job, base, tuner, None if cosines is None else auc(dev.labels.tolist(), cosines))
    card = card.model_copy(update={"category_prior": prior and prior.summary})
    if job.tuned:
        card = _tuned_card(job, card, tuner, _dev(job.dev, outcome.dev_logits, cosines), inputs)
    with whole_folder(job.out) as folder:
        if made.adapter is not None:
            made.adapter.finish(folder)
        model.save(folder, encoder)
        card.save(folder)
        if prior is not None:
            prior.table.save(folder)
        (folder / DEV_PAIRS_FILE).write_text("".join(_dev_pairs(job.dev)), encoding="utf-8")
        np.save(folder / DEV_LOGITS_FILE, outcome.dev_logits)
        if cosines is not None:
            np.save(folder / DEV_COSINES_FILE, cosines)
        _write_run(folder, job, outcome, facts)
        check_outputs([job.out], overwrite=overwrite)  # again, since training took long
    shutil.rmtree(work)
    return card


def _check(job: Job) -> None:
    teaching = labels_of(job.train)[weight_column(job.train) != 0]  # a row that weighs 0 teaches nothing
    for name, rows, labels in (("train", job.train, teaching), ("dev", job.dev, labels_of(job.dev))):
        classes = np.unique(labels).tolist()
        if classes != [0, 1]:
            raise InputError(f"{name} set: {len(rows)} rows with labels {classes}; expected both 0 and 1")


def _fitted(job: Job) -> Job:
    """Return the job with the parameters of format and head that its training rows decide."""
    form = job.recipe.format.fitted(job.recipe.task, candidates_of(job.train))
    if form != job.recipe.format:
        log.info("levels of category paths are separated by %r (format.path_separator)", form.path_separator)
    decided = {"format": form, "head": job.recipe.head.fitted(len(job.train))}
    return replace(job, recipe=job.recipe.model_copy(update=decided))


def _open_work(work: Path, job: Job, base: BaseModel) -> None:
    """Keep the work folder of an interrupted run of the same job; delete the folder of any other job."""
    mark = {
        "recipe": job.recipe.model_dump_json(exclude={"seed"}),
        "seed": str(job.recipe.seed),
        "base model": base.revision,
        "training rows": fingerprint(rows=[job.train]),
        "dev rows": fingerprint(rows=[job.dev]),
        "precision": resolve_precision(job.recipe.training.precision, training_device()),
        "processes": str(resolve_processes(job.recipe.training.processes)),
        "program": code_key("training.fitting.checkpoint:_train"),
    }
    if (teacher := job.recipe.training.teacher) is not None:
        mark["teacher"] = content_of(teacher)
    if (adapter := job.recipe.lora.start) is not None:
        mark["adapter"] = content_of(adapter)
    open_work(work, mark)


def _prepare(job: Job, base: BaseModel, work: Path) -> Path:
    """Return the folder of the base model, cut as the recipe says."""
    out = work / "encoder"
    if out.exists():
        return out
    after = prepare_encoder(base, out, encoder_options(job.recipe, job.train)).after
    sizes = (after.layers, after.vocabulary, after.parameters)
    log.info("base model %s: %d layers, %d tokens, %d parameters", base.name, *sizes)
    return out


def _examples(
    job: Job, inputs: PairInputs, work: Path, facts: RowFacts, prior: FittedPrior | None
) -> tuple[Examples, Examples]:
    """Write the rows of train and dev as numbers into folders of the work folder, and open both."""
    tell_findings(inputs, [row.pair for row in job.dev], "dev")
    train, dev = encode_rows(inputs, job.train, "train"), encode_rows(inputs, job.dev, "dev")
    return (
        store_examples(work / TRAIN_FOLDER, job.train, train, facts, None if prior is None else prior.features),
        store_examples(work / DEV_FOLDER, job.dev, dev),
    )


def _reading(model: CrossEncoder, section: TrainingSection) -> torch.autocast:
    """Return the precision in which a kernel head reads its rows, which are all of them: the run's.

    Others start from few rows, in fp32.
    """
    device, family = next(model.parameters()).device, model.encoder.config.model_type
    is_kernel = model.spec.kind is HeadKind.KERNEL
    is_fast = is_kernel and resolve_precision(section.precision, device, family) == "bf16"
    return torch.autocast(device.type, torch.bfloat16, enabled=is_fast)


def _cosines(model: CrossEncoder, tokenizer: PairTokenizer, dev: Examples) -> NDArray[np.float64] | None:
    """Return the cosines [N] of query and candidate in the untrained model; None without segments."""
    return scalars(model, tokenizer, dev.pairs)[:, 0] if model.spec.kind.reads_segments else None


def _dev(rows: Sequence[LabeledPair], logits: NDArray[np.float32], cosines: NDArray[np.float64] | None) -> Dev:
    labels, languages = [row.label for row in rows], [row.pair.language for row in rows]
    return Dev(labels, languages, linked_groups(rows), logits, cosines)


def _card(job: Job, base: BaseModel, tuner: FineTuner, cosine_auc: float | None) -> ModelCard:
    recipe = job.recipe
    return ModelCard(
        name=recipe.name,
        task=recipe.task,
        format=recipe.format,
        max_length=tuner.tokenizer.max_length,
        pad_id=tuner.tokenizer.pad_id,
        head=tuner.model.spec,
        prompt=recipe.decided_prompt,
        threshold=0.5,
        seen_languages=tuple(seen_languages(job.train)),
        fine_tuned=recipe.training.epochs > 0 or recipe.head.kind is HeadKind.KERNEL,
        cosine_auc=cosine_auc,
        base_model=base.name,
        license=base.license,
        recipe=recipe.model_dump(mode="json"),
        source_commit=source_commit(),
        created=now(),
    )


def _tuned_card(job: Job, card: ModelCard, tuner: FineTuner, dev: Dev, inputs: PairInputs) -> ModelCard:
    """Return the card with thresholds tuned on dev and the unlabelled pairs, and metrics on dev. No calibration."""
    others = [pair for pair in job.unlabelled if pair.language not in card.seen_languages]
    found = predict_logits(tuner.model, tuner.tokenizer, inputs.encode(others)) if others else ()
    unlabelled = Unlabelled(found, [pair.language for pair in others])
    tuned = tune(job.dev, dev.logits, CalibrationOptions(platt=False), card.seen_languages, unlabelled)
    card = with_tuning(card, tuned, dev)
    measured = {
        "metrics": report_model(job.dev, card.scores(dev.logits, dev.languages), card, seed=job.recipe.seed),
        "metrics_on": "dev: rows on which checkpoint and threshold were chosen too, so the metrics flatter",
    }
    return with_findings(card.model_copy(update=measured), dev)


def _dev_pairs(dev: Sequence[LabeledPair]) -> Iterator[str]:
    """Yield the first dev pairs of each language as JSON lines, half of either label where there are enough."""
    most = max(DEV_PAIRS_A_LANGUAGE, LEAST_DEV_PAIRS // len(languages := sorted({row.pair.language for row in dev})))
    for language in languages:
        for label in (1, 0):
            rows = [row for row in dev if row.pair.language == language and row.label == label]
            for row in rows[: most // 2]:
                yield json.dumps(asdict(row.pair) | {"label": label}, ensure_ascii=False) + "\n"


def _write_run(folder: Path, job: Job, outcome: Outcome, facts: RowFacts) -> None:
    """Write `run.json`: the resolved recipe, rows by language, queries where they are ranked, and every evaluation."""
    strata = {"train": strata_of(job.train), "dev": strata_of(job.dev)}
    run = {
        "recipe": job.recipe.model_dump(mode="json"),
        "rows": {name: dict(sorted(Counter(tag for tag, _ in found).items())) for name, found in strata.items()},
        **({"ranked_queries": asdict(facts.counts)} if facts.counts else {}),
        "evaluations": [asdict(evaluation) for evaluation in outcome.evaluations],
        "best_step": outcome.best_step,
        "device": outcome.device,
        "precision": outcome.precision,
    }
    (folder / "run.json").write_text(json.dumps(run, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
