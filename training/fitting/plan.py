"""What a run would cost, without training it: parameters, memory and steps. Loads no weights.

The model is built of fake tensors, and one step on its costliest batch is counted (training.models.memory). Counted are
tensors as they are on a CPU; Python and its libraries need some 0.5 GiB more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import Module
from transformers import AutoModel, AutoModelForSequenceClassification, PretrainedConfig

from relevance.errors import ConfigError
from relevance.model.heads import HeadKind
from relevance.model.inputs import PairInputs
from relevance.tasks import LabeledPair, Task
from relevance.text.tokenization import PairTokenizer
from training.data.stored.rows import candidates_of, on_disk
from training.fitting.loop.precision import resolve_precision, training_device
from training.fitting.loop.team import Team, resolve_processes
from training.fitting.packages import check_packages
from training.fitting.preparing import encoder_options
from training.fitting.recipe import Recipe
from training.fitting.rows.row_facts import facts_of
from training.fitting.rows.sampling import Rows, training_batches
from training.fitting.rows.truncation import encode_rows
from training.fitting.servable import check_base, check_lengths
from training.models.base.base_models import BaseModel, load_base_config, load_base_tokenizer, resolve_base_model
from training.models.base.prepared import EncoderOptions
from training.models.base.vocabulary import needed_ids
from training.models.cross_encoder import SCORED_TOKENS, CrossEncoder, dropout_of, head_spec, pad_id_of, without_pooler
from training.models.first_token import keep_first_token
from training.models.memory import LiveBytes, peak_bytes, size_of
from training.models.nf4 import whole_sizes
from training.models.used_rows import UsedRows, used_rows

STATES = 2  # of Adam, for each weight that learns: the means of its gradient and of the gradient's square


@dataclass(frozen=True)
class Plan:
    """Counts of a run, and the bytes of its parts where they are largest.

    `rows` and `tokens` are those of the costliest pairs that a process computes at once. Bytes are those of the first
    of `processes`: the others keep no best weights and do not score dev. `activations` are what a step needs beside the
    gradients; `evaluation` is what scoring dev needs, at another time. `whole` are the weights in fp32, as they are
    read and merged, where they are held in 4 bits in between; else 0. They are on the CPU, with a GPU too.
    """

    parameters: int
    trained: int
    steps: int
    processes: int
    rows: int
    tokens: int
    precision: str
    weights: int
    gradients: int
    optimizer: int
    kept: int
    activations: int
    evaluation: int
    whole: int

    @property
    def total(self) -> int:
        """The bytes of all parts at the costliest moment, in the first process."""
        trained = self.weights + max(self.gradients + self.activations, self.evaluation)
        return self.optimizer + self.kept + max(trained, self.whole)


def plan(recipe: Recipe, train: Sequence[LabeledPair], dev: Sequence[LabeledPair], lacking: Path) -> Plan:
    """Return what a run on these rows would take. Raises what training raises where base model or prompt do not fit.

    The ids of rows that a teacher lacks are written to `lacking`.
    """
    check_packages(recipe)
    base, section = resolve_base_model(recipe.base_model), recipe.training
    _check_steps(recipe, len(train))
    train = on_disk(train)
    form = recipe.format.fitted(recipe.task, candidates_of(train))
    recipe = recipe.model_copy(update={"format": form})
    check_base(recipe, base)
    options = encoder_options(recipe, train)
    config = _cut(load_base_config(base), base, options)
    whole = load_base_tokenizer(base)
    pad_id = pad_id_of(whole, base.path)
    tokenizer = PairTokenizer(whole.backend_tokenizer, section.max_length, pad_id, recipe.decided_prompt)
    check_lengths(recipe, config, tokenizer)
    inputs = PairInputs(recipe.task, recipe.format, tokenizer)
    (lengths, ids), (others, more_ids) = (_read(inputs, rows, name) for rows, name in ((train, "train"), (dev, "dev")))
    longest = int(others.max())
    batches = training_batches(lengths, facts_of(train, section, lacking).queries, section, recipe.seed)
    processes = section.processes or resolve_processes(0)
    shares = [Team(0, processes).share(batch) for batch in batches]
    rows, tokens, parts = _costliest(shares, lengths, section.micro_batch_size)
    precision = resolve_precision(section.precision, training_device())
    with LiveBytes(), torch.device("meta"):
        model = _empty_model(recipe, config, tokenizer)
    with FakeTensorMode(allow_non_fake_inputs=True):  # the numbers of a batch may be real; weights are not
        model.to_empty(device="cpu")
        parameters, weights = sum(value.numel() for value in model.parameters()), size_of(model)
        further, further_bytes = whole_sizes(model)
        with used_rows(model, ids | more_ids):
            learning = [value for value in model.parameters() if value.requires_grad]
            words = model.encoder.get_input_embeddings()
            weights += size_of(words) if isinstance(words, UsedRows) else 0
            step = peak_bytes(lambda: _steps(model, (rows, tokens), parts, precision), model)
            scored = max(1, SCORED_TOKENS // longest), longest
            evaluation = peak_bytes(lambda: _score(model, scored), model)
    trained = sum(value.numel() * value.element_size() for value in learning)
    return Plan(
        parameters=parameters + further,
        trained=sum(value.numel() for value in learning),
        steps=len(batches),
        processes=processes,
        rows=rows,
        tokens=tokens,
        precision=precision,
        weights=weights,
        gradients=trained,
        optimizer=STATES * trained,
        kept=trained,
        activations=max(0, step - trained),
        evaluation=evaluation,
        whole=weights + further_bytes if further else 0,
    )


def _read(inputs: PairInputs, rows: Sequence[LabeledPair], name: str) -> tuple[NDArray[np.int64], set[int]]:
    """Return the lengths of the pairs of rows in tokens, and the ids of all tokens."""
    lengths: list[NDArray[np.int64]] = []
    ids: set[int] = set()
    for block in encode_rows(inputs, rows, name):
        lengths.append(block.lengths)
        ids.update(np.unique(block.flat(np.arange(len(block)))[0]).tolist())
    return np.concatenate(lengths), ids


def _cut(config: PretrainedConfig, base: BaseModel, options: EncoderOptions) -> PretrainedConfig:
    """Return the configuration of the base model's text model, with the layers and tokens that stay."""
    config = config.get_text_config()
    if options.layers is not None:
        if options.layers > config.num_hidden_layers:
            most = config.num_hidden_layers
            raise ConfigError(f"layers {options.layers}: {base.name} has {most}; expected 1 to {most}")
        config.num_hidden_layers = options.layers
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[: options.layers]
    if options.trim_corpus is not None:
        kept = needed_ids(
            load_base_tokenizer(base), options.trim_corpus, options.trim_scripts, whole_scripts=options.whole_scripts
        )
        config.vocab_size = len(kept)
    if (config.pad_token_id or 0) >= config.vocab_size:
        config.pad_token_id = None  # it is renumbered; only its place matters to no size
    config.use_cache = False
    return config


def _empty_model(recipe: Recipe, config: PretrainedConfig, tokenizer: PairTokenizer) -> CrossEncoder:
    """Return the model of a run, frozen and adapted as in training. Call on the device `meta`."""
    head = recipe.decided_head
    levels = recipe.format.level_separator if recipe.task is Task.QC else ""
    spec = head_spec(tokenizer, head, config.hidden_size, levels)
    if spec.kind is HeadKind.STOCK:
        config.num_labels = 1
        encoder = AutoModelForSequenceClassification.from_config(config)
        keep_first_token(encoder)
    else:
        encoder = AutoModel.from_config(config, **without_pooler(config))
    model = CrossEncoder(encoder, spec, dropout_of(head))
    if recipe.encoder.freeze_word_embeddings:
        model.freeze_word_embeddings()
    if recipe.lora.rank:
        # Of an extra: imported where adapters are asked for.
        from training.models.lora import Adapter

        Adapter(model, recipe.lora.model_copy(update={"start": None}), Path())
    if recipe.training.gradient_checkpointing:
        model.checkpoint_layers()
    return model


def _check_steps(recipe: Recipe, rows: int) -> None:
    """Raise ConfigError where a run takes no step, whose memory could be counted."""
    if recipe.head.kind is HeadKind.KERNEL:
        size = 4 * min(rows, recipe.head.landmarks) ** 2 / 2**20
        raise ConfigError(
            f"--plan: no step trains a kernel head; solving for it takes {size:,.0f} MiB beside scoring its rows"
        )
    if not recipe.training.epochs:
        raise ConfigError("--plan: training.epochs = 0 trains nothing; expected a number above 0")


def _costliest(batches: Sequence[Rows], lengths: Rows, size: int) -> tuple[int, int, int]:
    """Return rows and tokens of the largest part that is computed at once, and how many parts its batch has."""
    found = (0, 0, 0)
    for batch in batches:
        step = size or len(batch)
        for start in range(0, len(batch), step):
            part = batch[start : start + step]
            found = max(
                found,
                (len(part), int(lengths[part].max()), -(-len(batch) // step)),
                key=lambda each: (each[0] * each[1], each),
            )
    return found


def _steps(model: Module, shape: tuple[int, int], parts: int, precision: str) -> None:
    """Compute the gradients of a batch; a second part finds those of the first."""
    model.train()
    for _ in range(min(parts, 2)):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision != "fp32"):
            logits = model(*_inputs(model, shape))
        logits.float().sum().backward()


def _score(model: Module, shape: tuple[int, int]) -> None:
    model.eval()
    with torch.no_grad():
        model(*_inputs(model, shape))


def _inputs(model: Module, shape: tuple[int, int]) -> tuple[torch.Tensor, ...]:
    ids = torch.zeros(shape, dtype=torch.int64)
    return ids, torch.ones_like(ids), torch.zeros_like(ids), torch.zeros(shape[0], model.spec.features)
