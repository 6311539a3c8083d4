"""A graph in int8 with scales that are fixed at export, so that a pair's score does not depend on its batch.

Products with weights and tables of embeddings become 8-bit integers. Each input of products has one scale, from the
largest values that calibration pairs give; each column of weights has its own. A few channels of a transformer are far
larger than the rest and would leave these few steps. So each channel is divided before it is rounded, and its row of
the weights multiplied, by `largest input ** a / largest weight ** (1 - a)` (SmoothQuant: Xiao et al. 2023, arXiv
2211.10438). Here `a` is chosen for each input, by the least error on calibration pairs, and the division is an operator
of its own.

Knows no checkpoints.
"""

import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from export.graph_files import save_graph
from relevance.model.bundle import DATA_FILE, MODEL_FILE, Bundle
from relevance.model.session import BundleSession, Logits, onnxruntime, session_options
from relevance.text.tokenization import TokenizedPair

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]
Feeds = Mapping[str, NDArray[Any]]

SMOOTHINGS = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8)  # values of `a` to try; 0: no division
WEIGHT_STEPS = 63  # 7 bits: without VNNI, sums of two products of 8 bits overflow 16 bits in AVX2
INPUT_STEPS, TABLE_STEPS = 255, 127
ROWS_A_PAIR = 4  # that an error is measured on
CALIBRATION_PAIRS = 128  # at most
LARGEST_SHIFT = 0.02  # of a score, at the 99th percentile of the dev pairs
TABLE_PART = 10_000  # rows
SMALLEST_TABLE = 128  # rows: smaller tables save nothing
MICROSOFT = "com.microsoft"


@dataclass
class Observed:
    """What calibration pairs give at one input of products: the range of each channel, and some rows [N, C]."""

    low: Floats
    high: Floats
    rows: list[Floats] = field(default_factory=list)

    @property
    def largest(self) -> Floats:
        """The largest magnitude of each channel [C]."""
        found: Floats = np.maximum(np.abs(self.low), np.abs(self.high))
        return found


@dataclass(frozen=True, slots=True)
class Fitted:
    """The integers of the products that read one input, and their relative squared error on the observed rows.

    An input x becomes round(x / `smoothing` / `scale`) + `zero`; the weights [C, O] are `weights` * `weight_scales`.
    """

    error: float
    smoothing: Floats | None
    scale: np.float32
    zero: np.uint8
    weights: NDArray[np.int8]
    weight_scales: Floats


def quantize(bundle: Bundle, pairs: Sequence[TokenizedPair], languages: Sequence[str], head: frozenset[str]) -> int:
    """Replace the fp32 graph of a bundle in the making by one in int8; return how many inputs of products stay fp32.

    None do, unless the 99th percentile of the shifts of scores is over `LARGEST_SHIFT`: then those with the largest
    errors, 1, 2, 4, ... of them, until it is not. The pairs that this is checked on are not those that the scales come
    from, as far as there are others. The nodes of the `head` stay fp32.
    """
    path, apart = bundle.folder / MODEL_FILE, bundle.folder / "fp32"
    expected = _logits(bundle, pairs)
    apart.mkdir()
    for name in (MODEL_FILE, DATA_FILE):
        if (bundle.folder / name).is_file():
            (bundle.folder / name).replace(apart / name)
    observing, checking = _parted(len(pairs))
    tokenizer = bundle.tokenizer()
    arrays = [tokenizer.collate([pairs[place]]) for place in observing]  # one pair at a time: padding is no calibration
    names = bundle.manifest.input_names
    quantizer = StaticQuantizer(apart / MODEL_FILE, [{name: each[name] for name in names} for each in arrays], head)
    in_float = 0
    while True:
        quantizer.write(path, in_float)
        scores = [bundle.manifest.scores(logits, languages) for logits in (expected, _logits(bundle, pairs))]
        shift = float(np.quantile(np.abs(scores[1] - scores[0])[checking], 0.99))
        log.info("int8: %d of %d inputs in fp32, shift of scores %.4f", in_float, len(quantizer), shift)
        if shift <= LARGEST_SHIFT or in_float == len(quantizer):
            shutil.rmtree(apart)
            return in_float
        in_float = min(max(1, 2 * in_float), len(quantizer))


def _parted(count: int) -> tuple[list[int], list[int]]:
    """Return the places of the pairs that give the scales, and of those to check on: all others, or all if few."""
    observing = list(range(0, count, -(-count // CALIBRATION_PAIRS)))
    return observing, sorted({*range(count)} - {*observing}) or observing


def _logits(bundle: Bundle, pairs: Sequence[TokenizedPair]) -> Logits:
    return BundleSession.start(bundle, device="cpu").logits(pairs)


class StaticQuantizer:
    """Observes a graph on calibration pairs, and writes it in int8 with any number of its inputs kept in fp32."""

    def __init__(self, source: Path, batches: Sequence[Feeds], kept: frozenset[str]) -> None:
        """Run the graph at `source` on batches without padding; nodes named in `kept` stay fp32."""
        self._source = source
        self._products = _products(source, kept)
        observed = _observe(source, list(self._products), batches)
        weights = {each.name: each for each in onnx.load(str(source)).graph.initializer}
        self._fitted = {
            name: _fit(observed[name], np.hstack([numpy_helper.to_array(weights[n.input[1]]) for n in nodes]))
            for name, nodes in self._products.items()
        }
        self._worst_first = sorted(self._fitted, key=lambda name: -self._fitted[name].error)

    def __len__(self) -> int:
        return len(self._fitted)

    def write(self, out: Path, in_float: int) -> None:
        """Write the graph in int8, the `in_float` inputs with the largest errors, and all tables, aside."""
        model = onnx.load(str(self._source))
        rewriter = _Rewriter(model.graph)
        left = set(self._worst_first[:in_float])
        places = {node.output[0]: name for name, nodes in self._products.items() for node in nodes if name not in left}
        for node in list(model.graph.node):
            if node.output[0] in places:
                name = places[node.output[0]]
                rewriter.product(node, name, self._fitted[name])
            elif _reads_table(node, rewriter.weights):
                rewriter.lookup(node)
            else:
                rewriter.nodes.append(node)
        rewriter.finish(model)
        save_graph(model, out)


class _Rewriter:
    """Collects the operators and weights of the new graph."""

    def __init__(self, graph: GraphProto) -> None:
        self.nodes: list[NodeProto] = []
        self.weights = {each.name: each for each in graph.initializer}
        self._columns: dict[str, int] = {}  # of an input's fitted weights: the products before have these
        self._tables: set[str] = set()

    def product(self, node: NodeProto, name: str, fitted: Fitted) -> None:
        """Write MatMul(x, weights) as QuantizeLinear and MatMulIntegerToFloat."""
        scale, zero, integers = f"{name}_scale", f"{name}_zero", f"{name}_int8"
        if name not in self._columns:
            source = name
            if fitted.smoothing is not None:
                source = f"{name}_smooth"
                self._add(f"{name}_smoothing", 1 / fitted.smoothing)
                self.nodes.append(helper.make_node("Mul", [name, f"{name}_smoothing"], [source], source))
            self._add(scale, fitted.scale)
            self._add(zero, fitted.zero)
            self.nodes.append(helper.make_node("QuantizeLinear", [source, scale, zero], [integers], integers))
        begin = self._columns.get(name, 0)
        end = self._columns[name] = begin + self.weights[node.input[1]].dims[1]
        (out,) = node.output
        self._add(f"{out}_weights", np.ascontiguousarray(fitted.weights[:, begin:end]))
        self._add(f"{out}_scales", fitted.weight_scales[begin:end])
        read = [integers, f"{out}_weights", scale, f"{out}_scales", zero]
        self.nodes.append(helper.make_node("MatMulIntegerToFloat", read, [out], node.name, domain=MICROSOFT))

    def lookup(self, node: NodeProto) -> None:
        """Write Gather(table, ids) with an int8 table that has one scale for each row."""
        (table, ids), (out,) = node.input, node.output
        if table not in self._tables:
            self._tables.add(table)
            integers, scales = _table(numpy_helper.to_array(self.weights[table]))
            self._add(f"{table}_int8", integers)
            self._add(f"{table}_scales", scales)
        self.nodes += [
            helper.make_node("Gather", [f"{table}_int8", ids], [f"{out}_row_int8"], f"{out}_row_int8"),
            helper.make_node("Cast", [f"{out}_row_int8"], [f"{out}_rows"], f"{out}_rows", to=TensorProto.FLOAT),
            helper.make_node("Gather", [f"{table}_scales", ids], [f"{out}_scales"], f"{out}_scales"),
            helper.make_node("Mul", [f"{out}_rows", f"{out}_scales"], [out], node.name),
        ]

    def finish(self, model: ModelProto) -> None:
        """Put the operators into the model, and the weights that they read."""
        graph = model.graph
        nodes = [NodeProto.FromString(node.SerializeToString()) for node in self.nodes]
        read = {name for node in nodes for name in node.input}
        weights = [TensorProto.FromString(w.SerializeToString()) for n, w in self.weights.items() if n in read]
        del graph.node[:], graph.initializer[:]
        graph.node.extend(nodes)
        graph.initializer.extend(weights)
        if MICROSOFT not in {each.domain for each in model.opset_import}:
            model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))

    def _add(self, name: str, value: Any) -> None:
        self.weights[name] = numpy_helper.from_array(np.asarray(value), name)


def _products(source: Path, kept: frozenset[str]) -> dict[str, list[NodeProto]]:
    """Return the products with weights by their input, those named in `kept` left out."""
    graph = onnx.load(str(source), load_external_data=False).graph
    weights = {each.name: each for each in graph.initializer}
    found: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        if node.op_type != "MatMul" or node.name in kept or node.input[0] in weights:
            continue
        if _is_matrix(weights.get(node.input[1])):
            found.setdefault(node.input[0], []).append(NodeProto.FromString(node.SerializeToString()))
    return found


def _observe(source: Path, names: Sequence[str], batches: Sequence[Feeds]) -> dict[str, Observed]:
    """Run the graph and return what it gives at the named tensors [B, T, C]."""
    model = onnx.load(str(source))
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        probe = Path(folder) / MODEL_FILE
        save_graph(model, probe)
        del model
        session = onnxruntime.InferenceSession(str(probe), session_options(), providers=["CPUExecutionProvider"])
    rng, found = np.random.default_rng(0), dict[str, Observed]()
    for feeds in batches:
        for name, value in zip(names, session.run(list(names), dict(feeds)), strict=True):
            rows = value.reshape(-1, value.shape[-1])
            low, high = rows.min(axis=0), rows.max(axis=0)
            seen = found.setdefault(name, Observed(low, high))
            seen.low, seen.high = np.minimum(seen.low, low), np.maximum(seen.high, high)
            seen.rows.append(rows[rng.permutation(len(rows))[:ROWS_A_PAIR]])
    return found


def _fit(observed: Observed, weights: Floats) -> Fitted:
    """Return the integers for weights [C, O] with the least error on the observed rows."""
    rows = np.concatenate(observed.rows)
    return min((_fit_smoothed(observed, weights, rows, a) for a in SMOOTHINGS), key=lambda fitted: fitted.error)


def _fit_smoothed(observed: Observed, weights: Floats, rows: Floats, smoothing: float) -> Fitted:
    """Return the integers for weights [C, O] with one smoothing, and their error on rows [N, C]."""
    divisors = np.ones(len(weights), np.float32)
    if smoothing:
        inputs, largest = np.maximum(observed.largest, 1e-6), np.maximum(np.abs(weights).max(axis=1), 1e-6)
        divisors = (inputs**smoothing / largest ** (1 - smoothing)).astype(np.float32)
    low, high = min((observed.low / divisors).min(), 0), max((observed.high / divisors).max(), 0)
    scale = _scales(np.float32(high - low), INPUT_STEPS)
    zero = np.uint8(np.clip(np.round(-low / scale), 0, INPUT_STEPS))
    smoothed = weights * divisors[:, None]
    scales = _scales(np.abs(smoothed).max(axis=0), WEIGHT_STEPS)
    integers = np.round(smoothed / scales).astype(np.int8)
    steps = np.clip(np.round(rows / divisors / scale) + zero, 0, INPUT_STEPS) - np.float32(zero)
    expected = rows @ weights
    wrong = (steps @ integers.astype(np.float32)) * (scale * scales) - expected
    error = float(np.square(wrong).sum() / max(float(np.square(expected).sum()), 1e-12))
    return Fitted(error, divisors if smoothing else None, scale, zero, integers, scales)


def _table(rows: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Return a table [V, C] as integers, and the scale of each row [V, 1]."""
    integers, scales = np.empty(rows.shape, np.int8), np.empty((len(rows), 1), np.float32)
    for start in range(0, len(rows), TABLE_PART):  # so that a large table is in memory once
        part = slice(start, start + TABLE_PART)
        scales[part] = _scales(np.abs(rows[part]).max(axis=1, keepdims=True), TABLE_STEPS)
        integers[part] = np.round(rows[part] / scales[part])
    return integers, scales


def _scales(largest: Any, steps: int) -> Any:
    """Return the size of a step, float32, so that `largest` is `steps` of them; 1 where all values are 0."""
    return np.where(largest > 0, largest / steps, 1.0).astype(np.float32)


def _is_matrix(tensor: TensorProto | None) -> bool:
    return tensor is not None and len(tensor.dims) == 2 and tensor.data_type == TensorProto.FLOAT


def _reads_table(node: NodeProto, weights: Mapping[str, TensorProto]) -> bool:
    """Return whether a node looks rows up in a large table."""
    if node.op_type != "Gather" or any(each.name == "axis" and each.i for each in node.attribute):
        return False
    table = weights.get(node.input[0])
    return table is not None and _is_matrix(table) and table.dims[0] >= SMALLEST_TABLE
