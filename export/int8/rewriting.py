"""A graph with its products and tables of embeddings in int8: with any of the products in fp32, or all in both ways.

Knows no bundles. How numbers become integers: `export.int8.rounding`.
"""

import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from export.graph_files import save_graph
from export.int8.rounding import Fitted, Observed, fit, table
from relevance.model.bundle import MODEL_FILE
from relevance.model.session import onnxruntime, session_options

Feeds = Mapping[str, NDArray[Any]]

ROWS_A_PAIR = 16  # that weights are rounded for
SMALLEST_TABLE = 128  # rows: smaller tables save nothing
MICROSOFT = "com.microsoft"


class StaticQuantizer:
    """Observes a graph on calibration pairs, and writes it in int8.

    Its products are grouped by their inputs: those of one input share its integers, and so are all in int8 or in fp32.
    """

    def __init__(self, source: Path, batches: Sequence[Feeds], kept: frozenset[str]) -> None:
        """Run the graph at `source` on batches without padding; nodes named in `kept` stay fp32."""
        self._source = source
        self._products = _products(source, kept)
        observed = _observe(source, list(self._products), batches)
        weights = {each.name: each for each in onnx.load(str(source)).graph.initializer}
        self._fitted = {
            name: fit(observed.pop(name), np.hstack([numpy_helper.to_array(weights[n.input[1]]) for n in nodes]))
            for name, nodes in self._products.items()
        }

    @property
    def weights(self) -> dict[str, int]:
        """The number of weights of the products of each input."""
        return {name: fitted.weights.size for name, fitted in self._fitted.items()}

    def nodes(self, names: Collection[str]) -> tuple[str, ...]:
        """Return the names of the products of inputs, in the order of the graph."""
        return tuple(node.name for name, nodes in self._products.items() if name in names for node in nodes)

    def write(self, out: Path, in_fp32: Collection[str], offset: float) -> None:
        """Write the graph in int8, the products of the inputs `in_fp32` aside, and add `offset` to what it gives."""
        self._write(out, set(self._fitted) - set(in_fp32), _Rewriter.product, offset)

    def write_both(self, out: Path) -> None:
        """Write the graph with each product both in int8 and in fp32.

        It gets an input more for each input of products, a bool scalar (`switch`): whether these are in int8.
        """
        self._write(out, set(self._fitted), _Rewriter.choice, 0.0)

    def _write(self, out: Path, names: Collection[str], write: Any, offset: float) -> None:
        model = onnx.load(str(self._source))
        rewriter = _Rewriter(model.graph)
        places = {node.output[0]: name for name in names for node in self._products[name]}
        for node in list(model.graph.node):
            if (name := places.get(node.output[0])) is not None:
                write(rewriter, node, name, self._fitted[name])
            elif _reads_table(node, rewriter.weights):
                rewriter.lookup(node)
            else:
                rewriter.nodes.append(node)
        if offset:
            rewriter.add_to(model.graph.output[0].name, offset)
        rewriter.finish(model)
        save_graph(model, out)


class _Rewriter:
    """Collects the operators and weights of the new graph."""

    def __init__(self, graph: GraphProto) -> None:
        self.nodes: list[NodeProto] = []
        self.weights = {each.name: each for each in graph.initializer}
        self.inputs: list[ValueInfoProto] = []
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

    def choice(self, node: NodeProto, name: str, fitted: Fitted) -> None:
        """Write MatMul(x, weights) in both ways, and the choice of one by an input of the graph."""
        (out,) = node.output
        rounded, exact = (NodeProto.FromString(node.SerializeToString()) for _ in range(2))
        rounded.output[0], exact.output[0] = f"{out}_rounded", f"{out}_exact"
        rounded.name, exact.name = rounded.output[0], exact.output[0]
        if name not in self._columns:
            self.inputs.append(helper.make_tensor_value_info(switch(name), TensorProto.BOOL, []))
        self.product(rounded, name, fitted)
        self.nodes.append(exact)
        self.nodes.append(helper.make_node("Where", [switch(name), rounded.output[0], exact.output[0]], [out]))

    def add_to(self, output: str, value: float) -> None:
        """Add a number to the tensor that is the graph's output."""
        before = f"{output}_before"
        for node in self.nodes:
            node.output[:] = [before if name == output else name for name in node.output]
        self._add(f"{output}_offset", np.float32(value))
        self.nodes.append(helper.make_node("Add", [before, f"{output}_offset"], [output], f"{output}_offset"))

    def lookup(self, node: NodeProto) -> None:
        """Write Gather(table, ids) with an int8 table that has one scale for each row."""
        (words, ids), (out,) = node.input, node.output
        if words not in self._tables:
            self._tables.add(words)
            integers, scales = table(numpy_helper.to_array(self.weights[words]))
            self._add(f"{words}_int8", integers)
            self._add(f"{words}_scales", scales)
        self.nodes += [
            helper.make_node("Gather", [f"{words}_int8", ids], [f"{out}_row_int8"], f"{out}_row_int8"),
            helper.make_node("Cast", [f"{out}_row_int8"], [f"{out}_rows"], f"{out}_rows", to=TensorProto.FLOAT),
            helper.make_node("Gather", [f"{words}_scales", ids], [f"{out}_scales"], f"{out}_scales"),
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
        graph.input.extend(self.inputs)
        if MICROSOFT not in {each.domain for each in model.opset_import}:
            model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))

    def _add(self, name: str, value: Any) -> None:
        self.weights[name] = numpy_helper.from_array(np.asarray(value), name)


def switch(name: str) -> str:
    """Return the name of the graph's input that chooses how the products of an input are computed."""
    return f"{name}_in_int8"


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


def _is_matrix(tensor: TensorProto | None) -> bool:
    return tensor is not None and len(tensor.dims) == 2 and tensor.data_type == TensorProto.FLOAT


def _reads_table(node: NodeProto, weights: Mapping[str, TensorProto]) -> bool:
    """Return whether a node looks rows up in a large table."""
    if node.op_type != "Gather" or any(each.name == "axis" and each.i for each in node.attribute):
        return False
    read = weights.get(node.input[0])
    return read is not None and _is_matrix(read) and read.dims[0] >= SMALLEST_TABLE
