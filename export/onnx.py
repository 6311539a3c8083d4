"""A scorer to an ONNX file: its raw graph, then the transformer fusions and the fp16 of onnxruntime."""

import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import onnx
import onnxruntime
import torch
from onnxruntime.transformers.fusion_options import FusionOptions
from onnxruntime.transformers.onnx_model import OnnxModel
from onnxruntime.transformers.optimizer import optimize_model

from export import graph_files
from export.checkpoint import Scorer
from export.cpukernels import use_fast_cpu_kernels
from export.firsttoken import keep_first_token
from export.tracing import optimum_config, short_word_table, trace
from relevance.errors import CheckpointError
from relevance.model.bundle import Precision

# Architectures whose graphs onnxruntime's optimiser fuses correctly; other graphs get only the fusions that the session
# makes when it loads them (the optimiser's rotary fusion breaks Qwen2 graphs of optimum, for example).
FUSED_FAMILIES = frozenset({"bert", "camembert", "distilbert", "electra", "roberta", "xlm-roberta"})


@dataclass(frozen=True, slots=True)
class Graph:
    """A written graph: how often each fusion was made, its inputs and opset.

    An input that no operator reads is left out.
    """

    fusions: dict[str, int]
    input_names: tuple[str, ...]
    opset: int


def write_onnx(scorer: Scorer, path: Path, precision: Precision) -> Graph:
    """Write `path` with all fusions that onnxruntime offers for the architecture, in fp16, or else in fp32.

    Weights past 2 GiB go to a file beside it. Raises CheckpointError where the architecture cannot be exported, or the
    model is too large for the conversion to fp16.
    """
    size = sum(p.numel() * p.element_size() for p in scorer.parameters())
    if precision == "fp16" and size > graph_files.LARGEST_FILE:
        raise CheckpointError(
            f"model of {size / 2**30:.1f} GiB in fp32: the conversion to fp16 holds at most 2 GiB; expected "
            "--precision fp32 or int8, fewer layers, or a smaller vocabulary (`relevance encoder`)"
        )
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        model, fusions, opset = _raw_graph(scorer, Path(folder) / "raw.onnx", precision)
    if precision != "fp16" and (replaced := use_fast_cpu_kernels(model.model.graph)):
        fusions["for the CPU"] = replaced
    if shortened := keep_first_token(model.model.graph):
        model.topological_sort()
        fusions["first token only"] = shortened
    if precision == "fp16":
        model.convert_float_to_float16(keep_io_types=True)
    model.topological_sort()
    graph_files.save_graph(model.model, path)
    return Graph(fusions, tuple(entry.name for entry in model.get_graph_inputs_excluding_initializers()), opset)


def _raw_graph(scorer: Scorer, raw: Path, precision: Precision) -> tuple[OnnxModel, dict[str, int], int]:
    """Return the traced graph, fused where the architecture allows it, how often each fusion was made, and its opset.

    `raw` is where the graph is written in between.
    """
    family = scorer.config.model_type
    if family not in FUSED_FAMILIES or not optimum_config(family):
        opset = trace(scorer, raw)
        return OnnxModel(onnx.load(str(raw))), {}, opset
    with short_word_table(scorer) as table:
        opset = trace(scorer, raw)
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
        table.put_into(model.model.graph)
    return model, {name: count for name, count in model.get_fused_operator_statistics().items() if count}, opset


def head_nodes(path: Path) -> frozenset[str]:
    """Return the names of the nodes of the head, unless it is the architecture's own (stock)."""
    graph = onnx.load(str(path), load_external_data=False).graph
    return frozenset(node.name for node in graph.node if _of_head(node))


def _of_head(node: onnx.NodeProto) -> bool:
    """Return whether a node was traced outside the encoder: optimum says it in its name, torch in its metadata."""
    scopes = next((each.value for each in node.metadata_props if each.key == "pkg.torch.onnx.name_scopes"), None)
    if scopes is not None:
        return "'encoder'" not in scopes
    return node.name.startswith("/") and not node.name.startswith("/encoder/")


def versions() -> dict[str, str]:
    """Return the versions of the packages that shape the graph."""
    import transformers

    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        **{name: version(name) for name in ("optimum", "onnxscript") if find_spec(name)},
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
    }
