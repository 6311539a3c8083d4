"""From a re-ranker to a checkpoint folder that the other commands read, once both have been found to agree.

The folder is that of `relevance train` with the architecture's own classifier as its head, or with the two rows of a
language model's head that belong to its answers. Its dev pairs are built in (pairs.tsv): they show that the model is
read right, not how good it is.
"""

import csv
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from relevance.errors import ConfigError, ParityError
from relevance.model.card import DEV_PAIRS_FILE, HEAD_FILE, TOKENIZER_FILE, ModelCard
from relevance.model.heads import HeadKind, HeadSpec
from relevance.model.inputs import PairInputs
from relevance.storage.files import whole_folder
from relevance.storage.outputs import check_outputs
from relevance.tasks import LabeledPair, Pair
from relevance.text.formatting import PairFormat
from training.data.provenance import now, source_commit
from training.fitting.servable import check_family
from training.importing.options import ImportOptions
from training.importing.reranker import Reranker, load_reranker
from training.models.base.answers import answer_rows
from training.models.base.base_models import text_decoder
from training.models.base.quiet import quiet_bars
from training.models.cross_encoder import CrossEncoder, load_tokenizer, predict_logits

log = logging.getLogger(__name__)

# In fp32, between the model's own library and the checkpoint: sums in another order move large logits of large models.
MAX_SCORE_DIFFERENCE = 1e-4
MAX_LOGIT_DIFFERENCE = 1e-3  # as a share of the largest logit, or of 1
PAIRS_FILE = Path(__file__).parent / "pairs.tsv"


def import_reranker(model: str, out: Path, options: ImportOptions, *, overwrite: bool = False) -> ModelCard:
    """Write the checkpoint folder `out`, whole or not at all, and return its card.

    Raises ConfigError where the model cannot be served, or an option is missing or does not fit it, CheckpointError
    where its files are incomplete, ParityError where the checkpoint scores the built-in pairs otherwise than the
    model's own library.
    """
    check_outputs([out], [Path(model)], overwrite=overwrite)
    reranker = load_reranker(model, options)
    check_family(reranker.base)
    label = _label(reranker, options.label)
    length = _length(reranker, options.max_length)
    form = PairFormat(as_is=True, query_prefix=reranker.prefix, candidate_prefix=options.candidate_prefix)
    card = _card(reranker, options, form, label, length)
    head = {} if reranker.answers is None else answer_rows(reranker.model, reranker.answers)
    rows = list(built_in_pairs())
    with whole_folder(out) as folder, quiet_bars():
        reranker.tokenizer.save_pretrained(folder)
        if "token_type_ids" not in reranker.tokenizer.model_input_names:
            _zero_types(folder / TOKENIZER_FILE)
        _check_prompt(folder, card)
        texts = [form.texts(card.task, row.pair) for row in rows]
        expected = card.head.stock_logits(torch.from_numpy(reranker.outputs(texts, length))).numpy()
        (text_decoder(reranker.model) if head else reranker.model).save_pretrained(folder, safe_serialization=True)
        if head:
            save_file(head, folder / HEAD_FILE)
        card.save(folder)
        lines = (
            json.dumps({"query": p.query, "candidate": p.candidate, "language": p.language, "label": row.label})
            for row in rows
            for p in (row.pair,)
        )
        (folder / DEV_PAIRS_FILE).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        _check_parity(folder, card, rows, expected)
    return card


def built_in_pairs() -> Iterator[LabeledPair]:
    """Yield a relevant and an irrelevant document of each query, and all documents as one, for the longest inputs."""
    with PAIRS_FILE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    long = " ".join(row["relevant"] for row in rows)
    yield LabeledPair(Pair(rows[0]["query"], long, rows[0]["language"]), 1, "0")
    for number, row in enumerate(rows, start=1):
        for label, name in ((1, "relevant"), (0, "irrelevant")):
            yield LabeledPair(Pair(row["query"], row[name], row["language"]), label, str(number))


def _label(reranker: Reranker, wanted: str | None) -> int:
    """Return the output that means relevant: the only one, the second of two, or the one that is asked for."""
    names = reranker.labels
    listed = ", ".join(f"{place} ({name})" for place, name in enumerate(names))
    if wanted is None:
        if len(names) > 2:
            raise ConfigError(
                f"model {reranker.base.name}: it has {len(names)} labels; expected --label with the one that means "
                f"relevant, one of {listed}"
            )
        if len(names) == 2:
            log.info("label 1 (%s) of %s counts as relevant (--label)", names[1], listed)
        return len(names) - 1
    places = [place for place, name in enumerate(names) if wanted in (str(place), name)]
    if len(places) != 1:
        raise ConfigError(f"--label {wanted!r}: expected one of {listed}")
    return places[0]


def _length(reranker: Reranker, wanted: int | None) -> int:
    own = reranker.max_length
    if wanted is None and own is None:
        raise ConfigError(f"model {reranker.base.name}: its files state no longest input; expected --max-length")
    if wanted is not None and own is not None and wanted > own:
        raise ConfigError(f"--max-length {wanted}: expected at most {own}, the tokens that the model reads")
    return wanted or own or 0


def _card(reranker: Reranker, options: ImportOptions, form: PairFormat, label: int, max_length: int) -> ModelCard:
    base, config = reranker.base, reranker.model.config
    # Several outputs are shares of one (softmax), unless the model's files say that each has a sigmoid of its own.
    own_sigmoid = config.problem_type == "multi_label_classification" or reranker.activation == "sigmoid"
    head = HeadSpec(
        kind=HeadKind.STOCK if reranker.answers is None else HeadKind.YES_NO,
        hidden_size=config.get_text_config().hidden_size,
        label=label,
        softmax=len(reranker.labels) == 1 or not own_sigmoid,
    )
    stated = {"model": base.name, "revision": base.revision, "labels": reranker.labels}
    stated |= {"activation": reranker.activation or None}
    if (activation := reranker.activation) not in ("", "sigmoid") and len(reranker.labels) == 1:
        log.info("its own activation is %s; scores here are the sigmoid of its output, in the same order", activation)
    return ModelCard(
        name=options.name or base.name.rpartition("/")[2],
        task=options.task,
        format=form,
        max_length=max_length,
        pad_id=reranker.tokenizer.pad_token_id,
        head=head,
        prompt=reranker.prompt,
        threshold=options.threshold,
        metrics_on="none: the model was trained elsewhere and imported",
        base_model=base.name,
        license=base.license,
        recipe={"import": stated},
        source_commit=source_commit(),
        created=now(),
    )


def _zero_types(path: Path) -> None:
    """Make every token of a pair one of type 0 in a tokenizer.json: its library gives the model no types."""
    content = json.loads(
        path.read_bytes(), object_hook=lambda part: part | {"type_id": 0} if "type_id" in part else part
    )
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _check_prompt(folder: Path, card: ModelCard) -> None:
    """Raise ConfigError where prompt and prefix leave no room for the texts."""
    tokenizer = load_tokenizer(folder, card.max_length, card.prompt)
    form = card.format
    ids = tokenizer.encode_texts([form.query_prefix, form.candidate_prefix])
    taken = sum(map(len, ids)) + tokenizer.template.overhead
    if taken >= card.max_length - 1:
        raise ConfigError(
            f"prompt {form.query_prefix[:60]!r}: with {form.candidate_prefix[:60]!r} and the special tokens it takes "
            f"{taken} of {card.max_length} tokens; expected room for a query and a document"
        )


def _check_parity(folder: Path, card: ModelCard, rows: list[LabeledPair], expected: np.ndarray) -> None:
    """Raise ParityError where a checkpoint's scores or logits differ from those of the expected logits [N]."""
    model = CrossEncoder.from_checkpoint(folder).to("cpu")  # where the expected ones were computed
    inputs = PairInputs.from_checkpoint(folder, card)
    logits = predict_logits(model, inputs.tokenizer, inputs.encode([row.pair for row in rows]))
    apart, moved = np.abs(logits - expected), np.abs(card.scores(logits) - card.scores(expected))
    allowed = MAX_LOGIT_DIFFERENCE * max(1.0, float(np.abs(expected).max()))
    excess = np.nan_to_num(np.maximum(apart / allowed, moved / MAX_SCORE_DIFFERENCE), nan=np.inf)
    worst = int(excess.argmax())
    if excess[worst] > 1:
        pair = rows[worst].pair
        raise ParityError(
            f"model {card.base_model}: {pair.query!r} / {pair.candidate[:60]!r} has the logit {expected[worst]:.5f} "
            f"by its own library and {logits[worst]:.5f} here; expected scores within {MAX_SCORE_DIFFERENCE} and "
            f"logits within {allowed:.2g}"
        )
    log.info("%d pairs: largest difference of a logit from the model's own library %.2g", len(rows), apart.max())
