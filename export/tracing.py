"""A scorer to a raw ONNX graph: by optimum where it is installed and knows the architecture, else by torch's exporter.

Optimum's table has the patches that its tracer needs for an architecture; it binds the version of transformers. Torch's
exporter (`torch.export`) follows the model's own code and needs no table, but its graphs get no fused operators. Knows
no precisions and no checks: `export.exporting` compares every graph with its checkpoint.
"""

import contextlib
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import GraphProto, numpy_helper
from torch import Tensor, nn

from export import graph_files
from export.checkpoint import Scorer
from relevance.errors import CheckpointError

OPTIMUM_OPSET = 17
TORCH_OPSET = 18  # the least that torch's exporter writes
OUTPUT_NAME = "logits"
_COLOURS = re.compile(r"\x1b\[\d*m")
ROWS, TOKENS = 2, 12  # of the example that a graph is made from; neither is 1, which would be taken as fixed
TABLE_ROWS = 64  # of the word embeddings, while a graph is made and fused


def trace(scorer: Scorer, path: Path) -> int:
    """Write the graph of a scorer in fp32 to `path`; return its opset. Raises CheckpointError where neither way works.

    Weights past 2 GiB lie in files beside it.
    """
    make = optimum_config(scorer.config.model_type)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # notes on constants and deprecations; parity is checked afterwards
        if make is not None:
            _by_optimum(scorer, make, path)
            return OPTIMUM_OPSET
        _by_torch(scorer, path)
        return TORCH_OPSET


@dataclass(frozen=True)
class WordTable:
    """The word embeddings [V, H] of a scorer, of which its graph so far has the first `kept` rows."""

    rows: NDArray[np.float32]
    kept: int

    def put_into(self, graph: GraphProto) -> None:
        """Put the whole table in place of its first rows."""
        short = self.rows[: self.kept]
        (place,) = (each for each in graph.initializer if np.array_equal(numpy_helper.to_array(each), short))
        place.CopyFrom(numpy_helper.from_array(self.rows, place.name))


@contextlib.contextmanager
def short_word_table(scorer: Scorer) -> Iterator[WordTable]:
    """Leave a scorer the first rows of its word embeddings while its graph is made; the graph gets the others later.

    Most weights of a multilingual encoder are word embeddings, and tracing and fusing copy all weights several times.
    """
    embeddings, config = scorer.encoder.get_input_embeddings(), scorer.config
    whole, vocabulary = embeddings.weight, config.vocab_size
    kept = max(TABLE_ROWS, 1 + (embeddings.padding_idx or 0))
    embeddings.weight = nn.Parameter(whole.detach()[:kept].clone(), requires_grad=False)
    config.vocab_size = len(embeddings.weight)  # optimum draws the ids of its example from it
    try:
        yield WordTable(whole.detach().numpy(), len(embeddings.weight))
    finally:
        embeddings.weight, config.vocab_size = whole, vocabulary


def optimum_config(family: str) -> Callable[[Any], Any] | None:
    """Return what makes optimum's export configuration of an architecture.

    None where optimum is not installed, does not fit the installed transformers, or does not export it.
    """
    try:
        from optimum.exporters.onnx import export  # noqa: F401 - registers the architectures
        from optimum.exporters.tasks import TasksManager
    except ImportError:  # not installed, or made for another version of transformers
        return None
    try:
        found: Callable[[Any], Any] = TasksManager.get_exporter_config_constructor(
            exporter="onnx", model_type=family, task="text-classification", library_name="transformers"
        )
    except (KeyError, ValueError):
        return None
    return found


def _by_optimum(scorer: Scorer, make: Callable[[Any], Any], path: Path) -> None:
    from optimum.exporters.onnx import export

    config = _with_inputs(make(scorer.config), scorer.input_names, scorer.spec.features)
    export(scorer, config, path, opset=OPTIMUM_OPSET)


def _with_inputs(config: Any, names: tuple[str, ...], features: int) -> Any:
    """Return an optimum export configuration whose graph has just these inputs and one output, logits [B]."""
    from optimum.utils.input_generators import DummyInputGenerator

    batch = {0: "batch_size"}
    axes = {name: batch if name == "features" else batch | {1: "sequence_length"} for name in names}

    class Features(DummyInputGenerator):
        SUPPORTED_INPUT_NAMES = ("features",)

        def __init__(self, task: str, normalized_config: Any, batch_size: int = 2, **_: Any) -> None:
            self._rows = batch_size

        def generate(self, input_name: str, **_: Any) -> Tensor:
            return torch.zeros(self._rows, features)

    class Configured(type(config)):
        inputs = property(lambda self: axes)
        outputs = property(lambda self: {OUTPUT_NAME: batch})
        DUMMY_INPUT_GENERATOR_CLASSES = (*type(config).DUMMY_INPUT_GENERATOR_CLASSES, Features)

    config.__class__ = Configured
    return config


def _by_torch(scorer: Scorer, path: Path) -> None:
    example = {name: _example(name, scorer.spec.features) for name in scorer.input_names}
    any_size = torch.export.Dim.DYNAMIC
    shapes = {name: {0: any_size} if name == "features" else {0: any_size, 1: any_size} for name in example}
    try:
        with torch.no_grad(), _quiet("torch.onnx"):
            torch.onnx.export(
                scorer,
                kwargs=example,
                f=path,
                input_names=list(example),
                output_names=[OUTPUT_NAME],
                dynamic_shapes=shapes,
                opset_version=TORCH_OPSET,
                dynamo=True,
                external_data=sum(p.nbytes for p in scorer.parameters()) > graph_files.LARGEST_FILE,
                verbose=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        reason = _COLOURS.sub("", str(error)).strip().partition("\n")[0]
        raise CheckpointError(
            f"architecture {scorer.config.model_type!r}: optimum has no export for it here, and torch's exporter fails "
            f"({reason})"
        ) from None
    except ImportError as error:
        raise CheckpointError(
            f"architecture {scorer.config.model_type!r}: optimum has no export for it here, and torch's exporter needs "
            f"the package onnxscript ({error}); expected it from the extra `train`"
        ) from None


def _example(name: str, features: int) -> Tensor:
    """Return an input of two rows, one of them padded."""
    if name == "features":
        return torch.zeros(ROWS, features)
    whole = torch.zeros(ROWS, TOKENS, dtype=torch.int64)
    if name == "attention_mask":
        whole[0], whole[1, : TOKENS // 2] = 1, 1
    return whole


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keep a library's log messages below errors to itself."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
