"""From rows and a recipe to a checkpoint folder: base model, fine-tuning, threshold, metrics, card. Made whole or not.

The folder is an ordinary transformers checkpoint with three files beside: `card.json` (relevance.card),
`head.safetensors` (absent with the stock head) and `dev_pairs.jsonl`, dev pairs of every language from which export
takes its golden pairs.
"""

import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig

from relevance.card import DEV_PAIRS_FILE, ModelCard, score_reference
from relevance.errors import ConfigError, InputError
from relevance.files import whole_folder
from relevance.heads import HeadKind
from relevance.locks import output_lock
from relevance.metrics import auc
from relevance.outputs import write_text
from relevance.tasks import LabeledPair, Pair
from relevance.tokenization import PairTokenizer
from training.data.provenance import fingerprint, now, source_commit
from training.data.weights import label_weights
from training.fitting.cuts import count_cuts
from training.fitting.evaluation import judge_labels, report_model
from training.fitting.finetune import STATE_FILE, Examples, FineTuner, Outcome
from training.fitting.recipe import Recipe
from training.fitting.servable import check_family, check_size
from training.fitting.thresholds import Thresholds, choose_thresholds, seen_languages, warn_of_missing
from training.models.base_models import BaseModel, EncoderOptions, prepare_encoder, resolve_base_model
from training.models.cross_encoder import CrossEncoder, load_tokenizer, predict_logits
from training.sources import code_key

log = logging.getLogger(__name__)

DEV_PAIRS_A_LANGUAGE = 24
PROBE_PAIRS = 128
FINGERPRINT_FILE = "fingerprint"
COUNT_FROM_PADDING = frozenset({"camembert", "roberta", "xlm-roberta"})  # positions begin behind the padding id


@dataclass(frozen=True)
class Job:
    """What to train on and where to put it; `unlabelled` pairs serve for thresholds of languages without labels."""

    recipe: Recipe
    train: Sequence[LabeledPair]
    dev: Sequence[LabeledPair]
    out: Path
    unlabelled: Sequence[Pair] = ()


def train(job: Job, *, overwrite: bool = False) -> ModelCard:
    """Fine-tune and write the checkpoint folder `job.out`; an interrupted run of the same job goes on where it was.

    Raises ConfigError where `out` exists and may not be replaced, InputError where rows or classes are missing,
    MachineError where another run is at work on `out` or the disk is full.
    """
    with output_lock(job.out):
        _check(job, overwrite)
        return _train(_fitted(job), overwrite)


def _train(job: Job, overwrite: bool) -> ModelCard:
    base = resolve_base_model(job.recipe.base_model)
    check_family(base.path, None if isinstance(base.path, Path) else base.revision)
    work = job.out.parent / f".{job.out.name}.work"
    _open_work(work, job, base)
    encoder = _prepare(job, base, work)
    torch.manual_seed(job.recipe.seed)
    tokenizer = load_tokenizer(encoder, job.recipe.training.max_length)
    _check_lengths(job.recipe, encoder, tokenizer)
    model = CrossEncoder.from_base(encoder, tokenizer, job.recipe.head)
    check_size(model, base.name)
    if job.recipe.encoder.freeze_word_embeddings:
        model.freeze_word_embeddings()
    examples = _examples(job, "train", job.train, tokenizer), _examples(job, "dev", job.dev, tokenizer)
    model.start_head(*_probe(examples[0], tokenizer))
    cosine_auc = _cosine_auc(model, tokenizer, examples[1])
    tuner = FineTuner(model, tokenizer, job.recipe.training, job.recipe.seed, work)
    outcome = tuner.run(*examples)
    card = _card(job, base, tuner, examples[1], cosine_auc)
    with whole_folder(job.out) as folder:
        model.save(folder, encoder)
        card.save(folder)
        _write_dev_pairs(folder, job.dev)
        _write_run(folder, job, outcome)
        _check_free(job.out, overwrite)  # again, since training took long
    shutil.rmtree(work)
    return card


def _check_free(out: Path, overwrite: bool) -> None:
    if out.exists() and not overwrite:
        raise ConfigError(f"output {out}: exists already; expected a new folder, or --overwrite")


def _check(job: Job, overwrite: bool) -> None:
    _check_free(job.out, overwrite)
    for name, rows in (("train", job.train), ("dev", job.dev)):
        classes = {row.label for row in rows}
        if classes != {0, 1}:
            raise InputError(f"{name} set: {len(rows)} rows with labels {sorted(classes)}; expected both 0 and 1")


def _fitted(job: Job) -> Job:
    """Return the job with the parameters of the format that its training rows decide."""
    form = job.recipe.format.fitted(job.recipe.task, [row.pair.candidate for row in job.train])
    if form != job.recipe.format:
        log.info("levels of category paths are parted by %r (format.path_separator)", form.path_separator)
    return replace(job, recipe=job.recipe.model_copy(update={"format": form}))


def _check_lengths(recipe: Recipe, encoder: Path, tokenizer: PairTokenizer) -> None:
    """Raise ConfigError where pairs can be longer than the model's positions, or their texts run into one another."""
    config = AutoConfig.from_pretrained(encoder)
    positions = getattr(config, "max_position_embeddings", None)
    positions = positions if positions and positions > 0 else None  # -1: no end
    if positions and config.model_type in COUNT_FROM_PADDING:
        positions -= tokenizer.pad_id + 1
    if positions and recipe.training.max_length > positions:
        raise ConfigError(f"training.max_length {recipe.training.max_length}: the model has {positions} positions")
    if not tokenizer.template.middle and not recipe.format.candidate_prefix:
        raise ConfigError(
            f"format.candidate_prefix is empty: the tokenizer of {recipe.base_model} puts nothing between query and "
            "candidate; expected a prefix that parts them, as ' category: '"
        )


def _open_work(work: Path, job: Job, base: BaseModel) -> None:
    """Keep the work folder of an interrupted run of the same job; throw away that of any other."""
    mark = {
        "recipe": job.recipe.model_dump_json(exclude={"seed"}),
        "seed": str(job.recipe.seed),
        "base model": base.revision,
        "training rows": fingerprint(rows=[job.train]),
        "dev rows": fingerprint(rows=[job.dev]),
        "program": code_key("training.fitting.checkpoint:_train"),
    }
    file = work / FINGERPRINT_FILE
    if work.exists() and (other := _differences(file, mark)):
        log.info("%s differ from those of the interrupted run in %s: starting anew", ", ".join(other), work)
        shutil.rmtree(work)
    write_text(file, json.dumps(mark))
    for leftover in work.glob(f".{STATE_FILE}.*"):  # a snapshot that a kill left half written
        leftover.unlink()


def _differences(file: Path, mark: dict[str, str]) -> list[str]:
    """Return the names of what differs from the job that a work folder was made for."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return [name for name, value in mark.items() if found.get(name) != value]
    except (OSError, ValueError, AttributeError):
        return ["files"]


def _prepare(job: Job, base: BaseModel, work: Path) -> Path:
    """Return the folder of the base model, cut as the recipe says."""
    section = job.recipe.encoder
    out = work / "encoder"
    if out.exists():
        return out
    options = EncoderOptions(section.layers)
    if section.trim_vocabulary:
        recipe = job.recipe  # dev is not looked at: what is measured there has to hold for texts never seen
        corpus = [text for row in job.train for text in recipe.format.texts(recipe.task, row.pair)]
        options = EncoderOptions(section.layers, corpus, section.trim_scripts, section.whole_scripts)
    after = prepare_encoder(base, out, options).after
    sizes = (after.layers, after.vocabulary, after.parameters)
    log.info("base model %s: %d layers, %d tokens, %d parameters", base.name, *sizes)
    return out


def _examples(job: Job, name: str, rows: Sequence[LabeledPair], tokenizer: PairTokenizer) -> Examples:
    texts = [job.recipe.format.texts(job.recipe.task, row.pair) for row in rows]
    pairs = tokenizer.encode_pairs(texts)
    count_cuts(tokenizer, texts, pairs).told(name, job.recipe.task)
    return Examples(pairs, [row.label for row in rows], label_weights(rows))


def _probe(examples: Examples, tokenizer: PairTokenizer) -> tuple[dict[str, torch.Tensor], float]:
    """Return a few evenly spaced training pairs as model inputs, and the share of positives in the training set."""
    some = examples.pairs[:: max(1, len(examples.pairs) // PROBE_PAIRS)][:PROBE_PAIRS]
    inputs = {name: torch.from_numpy(array) for name, array in tokenizer.collate(some).items()}
    return inputs, sum(examples.labels) / len(examples.labels)


def _cosine_auc(model: CrossEncoder, tokenizer: PairTokenizer, dev: Examples) -> float | None:
    """Return the dev AUC of the paired head as it starts, which is that of the cosine; None for other heads."""
    if model.spec.kind is not HeadKind.PAIRED:
        return None
    return auc(dev.labels, predict_logits(model, tokenizer, dev.pairs))


def _card(job: Job, base: BaseModel, tuner: FineTuner, dev: Examples, cosine_auc: float | None) -> ModelCard:
    """Tune the threshold on dev, and say there how good the model is."""
    recipe, model, tokenizer = job.recipe, tuner.model, tuner.tokenizer
    card = ModelCard(
        name=recipe.name,
        task=recipe.task,
        format=recipe.format,
        max_length=tokenizer.max_length,
        pad_id=tokenizer.pad_id,
        head=model.spec,
        threshold=0.5,
        seen_languages=tuple(seen_languages(job.train)),
        cosine_auc=cosine_auc,
        base_model=base.name,
        license=base.license,
        recipe=recipe.model_dump(mode="json"),
        source_commit=source_commit(),
        created=now(),
    )
    scores = card.scores(predict_logits(model, tokenizer, dev.pairs))
    languages = [row.pair.language for row in job.dev]
    chosen = _thresholds(job, card, tuner, scores)
    found = {
        "threshold": chosen.overall,
        "language_thresholds": chosen.by_language,
        "threshold_sources": chosen.sources,
        "metrics_on": "dev: rows on which checkpoint and threshold were chosen too, so the metrics flatter",
    } | score_reference(scores, languages)
    card = ModelCard.model_validate(dict(card) | found)
    metrics = report_model(job.dev, scores, card, seed=recipe.seed)
    card = card.model_copy(update={"metrics": metrics, "findings": judge_labels(job.dev, scores, card, cosine_auc)})
    for finding in card.findings:
        log.warning("dev: %s", finding)
    return card


def _thresholds(job: Job, card: ModelCard, tuner: FineTuner, scores: np.ndarray) -> Thresholds:
    """Choose the thresholds on dev, and those of languages without labels on dev or on the unlabelled pairs."""
    labels, languages = [row.label for row in job.dev], [row.pair.language for row in job.dev]
    chosen = choose_thresholds(labels, scores, languages, card.seen_languages)
    others = [pair for pair in job.unlabelled if pair.language not in card.seen_languages]
    if others:
        tokens = tuner.tokenizer.encode_pairs(card.texts(others))
        found = card.scores(predict_logits(tuner.model, tuner.tokenizer, tokens))
        chosen = chosen.with_pairs(found, [pair.language for pair in others])
    warn_of_missing(chosen, card.seen_languages, [*languages, *(pair.language for pair in others)])
    return chosen


def _write_dev_pairs(folder: Path, dev: Sequence[LabeledPair]) -> None:
    """Write the first dev pairs of each language, as many of either label as far as there are any."""
    lines = []
    for language in sorted({row.pair.language for row in dev}):
        rows = [row for row in dev if row.pair.language == language]
        half = DEV_PAIRS_A_LANGUAGE // 2
        chosen = [row for label in (1, 0) for row in [r for r in rows if r.label == label][:half]]
        for row in chosen:
            fields = {"query": row.pair.query, "candidate": row.pair.candidate, "language": language}
            lines.append(json.dumps({**fields, "label": row.label}, ensure_ascii=False) + "\n")
    (folder / DEV_PAIRS_FILE).write_text("".join(lines), encoding="utf-8")


def _write_run(folder: Path, job: Job, outcome: Outcome) -> None:
    """Write `run.json`: the resolved recipe, how many rows of which language went in, and every evaluation."""
    counts = {
        name: {language: sum(row.pair.language == language for row in rows) for language in languages}
        for name, rows in (("train", job.train), ("dev", job.dev))
        for languages in [sorted({row.pair.language for row in rows})]
    }
    run = {"recipe": job.recipe.model_dump(mode="json"), "rows": counts, **asdict(outcome)}
    (folder / "run.json").write_text(json.dumps(run, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
