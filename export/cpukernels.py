"""Replaces fused operators whose CPU kernels are slow with operators whose kernels are fast. The results are the same.

On a CPU, onnxruntime's SkipLayerNormalization takes several times as long as two Adds and a LayerNormalization, and its
BiasGelu takes longer than Sum and Gelu; benchmarks/serving/kernels.py measures the effect. Attention becomes three
products and MultiHeadAttention, because there the first token's query is a separate row (`export.firsttoken`). On a GPU
the fused operators are faster.
"""

from collections.abc import Callable

import numpy as np
from onnx import GraphProto, NodeProto, helper, numpy_helper

MICROSOFT = "com.microsoft"
Rewrite = Callable[[NodeProto, GraphProto], list[NodeProto]]


def use_fast_cpu_kernels(graph: GraphProto) -> int:
    """Replace operators of a graph in place and remove unused weights; return how many operators were replaced."""
    nodes: list[NodeProto] = []
    replaced = 0
    for node in graph.node:
        rewrite = REWRITES.get(node.op_type)
        made = rewrite(node, graph) if rewrite else [node]
        replaced += made != [node]
        nodes += made
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in graph.node for name in node.input}
    for place in reversed(range(len(graph.initializer))):  # in place: a list of the others would copy all weights
        if graph.initializer[place].name not in used:
            del graph.initializer[place]
    return replaced


def _norm_of_sum(node: NodeProto, graph: GraphProto) -> list[NodeProto]:
    """Write SkipLayerNormalization(x, skip, scale, shift, bias) as LayerNormalization((x + skip) + bias).

    The bias comes last: onnxruntime fuses LayerNormalization((x + bias) + skip) again when it loads the graph.
    """
    x, skip, scale, shift, *bias = node.input
    if any(node.output[1:]) or not bias:
        return [node]
    name, (out, *_) = node.name, node.output
    return [
        helper.make_node("Add", [x, skip], [f"{out}_skip"], f"{name}_skip"),
        helper.make_node("Add", [f"{out}_skip", *bias], [f"{out}_sum"], f"{name}_bias"),
        helper.make_node(
            "LayerNormalization", [f"{out}_sum", scale, shift], [out], name, axis=-1, epsilon=_of(node, "epsilon")
        ),
    ]


def _gelu_of_sum(node: NodeProto, graph: GraphProto) -> list[NodeProto]:
    """Write BiasGelu(x, bias) as Gelu(x + bias). Not Add: onnxruntime fuses Add and Gelu again."""
    (out,) = node.output
    return [
        helper.make_node("Sum", node.input, [f"{out}_sum"], f"{node.name}_bias"),
        helper.make_node("Gelu", [f"{out}_sum"], [out], node.name, domain=MICROSOFT),
    ]


def _heads_of_products(node: NodeProto, graph: GraphProto) -> list[NodeProto]:
    """Write Attention(x, weights, bias, mask) as three products and MultiHeadAttention."""
    weights = next((each for each in graph.initializer if each.name == node.input[1]), None)
    if weights is None or any(node.input[4:]) or any(node.output[1:]) or not _plain(node):
        return [node]
    x, _, bias, *mask = node.input
    parts = np.split(numpy_helper.to_array(weights), 3, axis=1)
    products = []
    for letter, part in zip("qkv", parts, strict=True):
        name = f"{node.name}_{letter}"
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(part), f"{name}_weight"))
        products.append(helper.make_node("MatMul", [x, f"{name}_weight"], [name], f"{name}_product"))
    kept = {each.name: helper.get_attribute_value(each) for each in node.attribute if each.name in PLAIN}
    inputs = [product.output[0] for product in products] + [bias, *mask]
    return [*products, helper.make_node("MultiHeadAttention", inputs, node.output, node.name, domain=MICROSOFT, **kept)]


PLAIN = frozenset({"num_heads", "mask_filter_value", "scale"})  # attributes that both attention operators have


def _plain(node: NodeProto) -> bool:
    return all(each.name in PLAIN or not helper.get_attribute_value(each) for each in node.attribute)


def _of(node: NodeProto, name: str) -> float:
    return next(float(each.f) for each in node.attribute if each.name == name)


REWRITES: dict[str, Rewrite] = {
    "SkipLayerNormalization": _norm_of_sum,
    "BiasGelu": _gelu_of_sum,
    "Attention": _heads_of_products,
}
