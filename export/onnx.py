"""A scorer to an ONNX file by optimum, then the transformer fusions and reduced precision of onnxruntime."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers.fusion_options import FusionOptions
from onnxruntime.transformers.onnx_model import OnnxModel
from onnxruntime.transformers.optimizer import optimize_model
from optimum.exporters.onnx import export as export_graph
from optimum.exporters.tasks import TasksManager
from optimum.utils.input_generators import DummyInputGenerator
from torch import Tensor

from export.checkpoint import Scorer
from export.cpukernels import use_fast_cpu_kernels
from export.firsttoken import keep_first_token
from relevance.bundle import Precision
from relevance.errors import CheckpointError

OPSET = 17
OUTPUT_NAME = "logits"
LARGEST_GRAPH = 2**31 - 2**20  # protobuf ends at 2 GiB
# Architectures whose graphs onnxruntime's optimiser fuses correctly; other graphs get only the fusions that the session
# makes when it loads them (the optimiser's rotary fusion breaks Qwen2 graphs of optimum, for example).
FUSED_FAMILIES = frozenset({"bert", "camembert", "distilbert", "electra", "roberta", "xlm-roberta"})


@dataclass(frozen=True, slots=True)
class Graph:
    """A written graph: how often each fusion was made, and its inputs. An input that no operator reads is left out."""

    fusions: dict[str, int]
    input_names: tuple[str, ...]


def write_onnx(scorer: Scorer, path: Path, precision: Precision) -> Graph:
    """Write `path` in a precision, with all fusions that onnxruntime offers for the architecture.

    Raises CheckpointError where optimum cannot export the architecture, or the model is too large for one file.
    """
    size = sum(p.numel() * p.element_size() for p in scorer.parameters())
    if size > LARGEST_GRAPH:
        raise CheckpointError(
            f"model of {size / 2**30:.1f} GiB in fp32: expected at most 2 GiB, what one ONNX file holds; "
            "keep fewer layers or trim the vocabulary (`relevance encoder`)"
        )
    raw = path.with_suffix(".raw.onnx")
    _export(scorer, raw)
    graph = _optimize(scorer, raw, path, precision)
    if precision == "int8":
        path.replace(raw)
        _quantize(raw, path)
    raw.unlink(missing_ok=True)
    return graph


def _export(scorer: Scorer, path: Path) -> None:
    """Trace the scorer through optimum's export configuration of its architecture."""
    family = scorer.config.model_type
    try:
        make = TasksManager.get_exporter_config_constructor(
            exporter="onnx", model_type=family, task="text-classification", library_name="transformers"
        )
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"architecture {family!r}: optimum cannot export it ({error})") from None
    config = _with_inputs(make(scorer.config), scorer.input_names, scorer.spec.features)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's notes on constants and deprecations; parity is checked below
        export_graph(scorer, config, path, opset=OPSET)


def _with_inputs(config: Any, names: tuple[str, ...], features: int) -> Any:
    """Return an optimum export configuration whose graph has just these inputs and one output, logits [B]."""
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


def _optimize(scorer: Scorer, raw: Path, path: Path, precision: Precision) -> Graph:
    if scorer.config.model_type in FUSED_FAMILIES:
        options = FusionOptions("bert")
        options.enable_embed_layer_norm = False  # its operator wants int32 ids and a mask of lengths
        model = optimize_model(
            str(raw),
            model_type="bert",
            num_heads=scorer.config.num_attention_heads,
            hidden_size=scorer.config.hidden_size,
            optimization_options=options,
            opt_level=0,
            use_gpu=precision == "fp16",
        )
        fusions = {name: count for name, count in model.get_fused_operator_statistics().items() if count}
    else:
        model, fusions = OnnxModel(onnx.load(str(raw))), {}
    if precision != "fp16" and (replaced := use_fast_cpu_kernels(model.model.graph)):
        fusions["for the CPU"] = replaced
    if shortened := keep_first_token(model.model.graph):
        model.topological_sort()
        fusions["first token only"] = shortened
    if precision == "fp16":
        model.convert_float_to_float16(keep_io_types=True)
    model.save_model_to_file(str(path))
    return Graph(fusions, tuple(entry.name for entry in model.get_graph_inputs_excluding_initializers()))


def _quantize(source: Path, path: Path) -> None:
    """Quantise weights to 8 bits, with one scale for each channel; activations are quantised at run time (dynamic).

    The head stays fp32, unless it is the architecture's own (stock). The matrix products after a GELU stay fp32 too:
    no 8-bit scale fits the outliers of a GELU (docs/log.md: they cause half of the error).
    """
    quantize_dynamic(
        source,
        path,
        nodes_to_exclude=_kept_in_float(onnx.load(str(source)).graph),
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=True,  # without VNNI, sums of two 8-bit products overflow 16 bits in AVX2
        op_types_to_quantize=["MatMul", "Attention", "Gather"],
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},  # shapes end at the fused operators
    )


def _kept_in_float(graph: onnx.GraphProto) -> list[str]:
    """Return the names of the head's nodes and of the matrix products that read a GELU's output."""
    activated = {name for node in graph.node if "Gelu" in node.op_type for name in node.output}
    behind = [node.name for node in graph.node if node.op_type == "MatMul" and not activated.isdisjoint(node.input)]
    head = [node.name for node in graph.node if node.name.startswith("/") and not node.name.startswith("/encoder/")]
    return head + behind


def versions() -> dict[str, str]:
    """Return the versions of the packages that shape the graph."""
    import optimum.version
    import transformers

    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "optimum": optimum.version.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
    }
