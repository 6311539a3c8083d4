"""A head that reads only the first token needs only its row of the last layer. This saves 1/8 of a 6-layer model.

All operators after the last attention work on each token separately (products with weights, sums, norms, activations),
so the first row can be taken before them, with the same result. The Gather after the last layer moves up through these
operators to the attention, and before it to the queries where they are a separate input (MultiHeadAttention). Keys and
values are still computed for all tokens.
"""

from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

ROW_BY_ROW = frozenset(
    {
        *("Add", "BiasGelu", "Cast", "Div", "Erf", "FastGelu", "Gelu", "LayerNormalization", "MatMul", "Mul", "Relu"),
        *("SkipLayerNormalization", "Sum", "Tanh"),
    }
)
QUERIES_APART = "MultiHeadAttention"
LAYER_ENDS = ("LayerNormalization", "SkipLayerNormalization")
TOKENS = 1  # the axis of [batch, tokens, width]
FIRST, AXES = "first_token", "first_token_axes"


def keep_first_token(graph: GraphProto) -> int:
    """Change a graph in place where its head reads the first token only; return how many operators compute one row.

    The caller must sort the nodes afterwards.
    """
    constants = _constants(graph)
    makers = {name: node for node in graph.node for name in node.output}
    heads = [node for node in graph.node if _takes_first(node, constants, makers)]
    if not heads:
        return 0
    rows = _Rows(graph, makers, {*constants, ""})
    for head in heads:
        head.CopyFrom(helper.make_node("Squeeze", [rows.first(head), AXES], head.output, head.name))
    graph.initializer.append(helper.make_tensor(FIRST, TensorProto.INT64, [1], [0]))
    graph.initializer.append(helper.make_tensor(AXES, TensorProto.INT64, [1], [TOKENS]))
    graph.node.extend(rows.made)
    return len(rows.changed)


class _Rows:
    """Finds, or makes, the tensors that hold only the first token's row."""

    def __init__(self, graph: GraphProto, makers: dict[str, NodeProto], constants: set[str]) -> None:
        self.made: list[NodeProto] = []
        self.changed: list[str] = []
        self._makers, self._constants = makers, constants
        self._readers: dict[str, list[str]] = {}
        self._known: dict[str, str] = {}
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node.output[0])

    def first(self, reader: NodeProto) -> str:
        """Return the tensor that holds the first row of what a node reads."""
        return self._first_of(reader.input[0], {reader.output[0]})

    def _first_of(self, name: str, passed: set[str]) -> str:
        """Return the first row of a tensor; `passed` are the first outputs of nodes that will read only this row."""
        if name in self._known:
            return self._known[name]
        maker = self._makers.get(name)
        if maker is None or not _rows_apart(maker) or not passed.issuperset(self._readers[name]):
            self._known[name] = f"{name}_first"
            self.made.append(helper.make_node("Gather", [name, FIRST], [f"{name}_first"], f"{name}_first", axis=TOKENS))
        else:
            self._known[name] = name
            passed.add(maker.output[0])
            for place, source in enumerate(maker.input[:1] if maker.op_type == QUERIES_APART else maker.input):
                if source not in self._constants:
                    maker.input[place] = self._first_of(source, passed)
            self.changed.append(maker.name)
        return self._known[name]


def _rows_apart(node: NodeProto) -> bool:
    """Return whether each token's output row depends on its input row alone (of an attention: on its query's row)."""
    return node.op_type in ROW_BY_ROW or (node.op_type == QUERIES_APART and not any(node.input[5:]))


def _takes_first(node: NodeProto, constants: dict[str, TensorProto], makers: dict[str, NodeProto]) -> bool:
    """Return whether a node is Gather(x, 0) along the tokens, where x is the output of a layer."""
    if node.op_type != "Gather" or not any(each.name == "axis" and each.i == TOKENS for each in node.attribute):
        return False
    source, index = makers.get(node.input[0]), constants.get(node.input[1])
    return source is not None and source.op_type in LAYER_ENDS and index is not None and _is_zero(index)


def _constants(graph: GraphProto) -> dict[str, TensorProto]:
    """Return all weights and constants by name."""
    found = {node.output[0]: node.attribute[0].t for node in graph.node if node.op_type == "Constant"}
    found |= {each.name: each for each in graph.initializer}
    for node in graph.node:  # weights that are equal may be shared
        if node.op_type == "Identity" and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def _is_zero(tensor: TensorProto) -> bool:
    return not tensor.dims and tensor.data_type == TensorProto.INT64 and not numpy_helper.to_array(tensor)
