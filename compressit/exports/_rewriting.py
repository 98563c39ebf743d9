"""What is done to a traced ONNX graph so that it is as small and as fast as it can be."""

from __future__ import annotations

import hashlib
from typing import Any

MATRIX = 1024
"""Elements from which on two equal constants are one matrix used twice, and not two that happen to be equal."""


def share(program: Any) -> None:
    """Store a matrix once that several layers share: tracing gives each of them a copy."""
    import onnx_ir

    graph = program.graph
    first: dict[tuple[Any, ...], Any] = {}
    for name, value in list(graph.initializers.items()):
        held = value.const_value
        if held.size < MATRIX or value.is_graph_output():
            continue
        key = held.dtype, tuple(held.shape), hashlib.sha256(held.tobytes()).digest()
        if key in first:
            onnx_ir.convenience.replace_all_uses_with(value, first[key])
            del graph.initializers[name]
        else:
            first[key] = value


def unfuse(program: Any) -> None:
    """Take sums out of norms, and part the two by a reshape to the same shape, which costs nothing and is left alone.

    onnxruntime's operator for both, SkipLayerNormalization, reads one number at a time: on a CPU it takes about five
    times as long as Add and LayerNormalization do (onnxruntime 1.32): a tenth of a float32 BERT, a fifth of an int8
    one.
    """
    graph = program.graph
    for node in list(graph):
        if node.op_type == "SkipLayerNormalization":
            _take_apart(graph, node)
    for node in list(graph):
        if node.op_type == "LayerNormalization":
            _part(graph, node)


def _part(graph: Any, node: Any) -> None:
    import onnx_ir

    summed = node.inputs[0]
    if summed.shape is None or summed.producer() is None or summed.producer().op_type != "Add":
        return
    # A dimension of 0 stays as it is.
    shape = onnx_ir.val(f"same_{len(summed.shape)}", const_value=onnx_ir.tensor([0] * len(summed.shape)))
    same = onnx_ir.node("Reshape", [summed, graph.initializers.setdefault(shape.name, shape)])
    same.outputs[0].shape, same.outputs[0].dtype = summed.shape, summed.dtype
    graph.insert_before(node, same)
    node.replace_input_with(0, same.outputs[0])


def _take_apart(graph: Any, node: Any) -> None:
    import onnx_ir

    value, skip, *rest = node.inputs
    scale, shift, bias = (*rest, None, None)[:3]
    normed = node.outputs[0]

    def like(op_type: str, inputs: list[Any], **attributes: Any) -> Any:
        made = onnx_ir.node(op_type, inputs, attributes)
        made.outputs[0].shape, made.outputs[0].dtype = normed.shape, normed.dtype
        return made

    new = [] if bias is None else [like("Add", [value, bias])]
    new.append(like("Add", [new[-1].outputs[0] if new else value, skip]))
    summed = new[-1].outputs[0]
    epsilon = node.attributes["epsilon"].as_float()
    new.append(like("LayerNormalization", [summed, scale, shift], axis=-1, epsilon=epsilon))
    old, replacements = [normed], [new[-1].outputs[0]]
    # The sum itself may be wanted further on; what else it gives are means and deviations for training.
    if len(node.outputs) > 3:
        old, replacements = [*old, node.outputs[3]], [*replacements, summed]
    onnx_ir.convenience.replace_nodes_and_values(graph, node, [node], new, old, replacements)
