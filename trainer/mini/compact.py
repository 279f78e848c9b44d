"""Halves ONNX files: weights are stored in few bits and widened to float32 as the model loads.

All arithmetic stays in float32, so only the rounding of the weights themselves can show. ONNX
Runtime folds the added Cast nodes when it opens the file; a row of the int8 table is widened only
when it is looked up, so that table stays small in memory too.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SMALLEST = 256  # values; below this a float16 copy saves nothing worth a node


def compact(source: Path, target: Path, table: str | None = None) -> None:
    """Writes a copy of an ONNX file with float16 weights and, if named, one int8 table.

    Args:
        source: File with float32 initialisers.
        target: Where the small copy goes.
        table: Name of an initialiser that is only ever gathered by rows (word embeddings).

    Raises:
        ValueError: a weight is out of float16's range.
    """
    model = onnx.load(str(source))
    graph = model.graph
    added: list[onnx.NodeProto] = []
    for tensor in list(graph.initializer):
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        if values.size < SMALLEST:
            continue
        graph.initializer.remove(tensor)
        if tensor.name == table:
            _quantise_rows(graph, tensor.name, values)
            continue
        small = values.astype(np.float16)
        if not np.isfinite(small).all():
            raise ValueError(f"{tensor.name} does not fit float16")
        graph.initializer.append(numpy_helper.from_array(small, f"{tensor.name}.f16"))
        cast = helper.make_node("Cast", [f"{tensor.name}.f16"], [tensor.name], to=TensorProto.FLOAT)
        added.append(cast)
    nodes = added + list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    for node in graph.node:
        del node.metadata_props[:]
    model.producer_name, model.producer_version, model.doc_string = "", "", ""
    onnx.checker.check_model(model, full_check=True)
    target.write_bytes(model.SerializeToString(deterministic=True))


def _quantise_rows(graph: onnx.GraphProto, name: str, values: np.ndarray) -> None:
    """Replaces Gather(table, ids) by Gather(int8, ids) · Gather(scale, ids), a scale per row."""
    scale = np.maximum(np.abs(values).max(axis=1, keepdims=True), 1e-12) / 127
    codes = np.rint(values / scale).astype(np.int8)
    graph.initializer.append(numpy_helper.from_array(codes, f"{name}.i8"))
    graph.initializer.append(numpy_helper.from_array(scale.astype(np.float32), f"{name}.scale"))
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if name not in node.input:
            nodes.append(node)
            continue
        if node.op_type != "Gather":
            raise ValueError(f"{name} is used by {node.op_type}, not only looked up")
        ids, out = node.input[1], node.output[0]
        nodes += [
            helper.make_node("Gather", [f"{name}.i8", ids], [f"{out}.i8"]),
            helper.make_node("Cast", [f"{out}.i8"], [f"{out}.codes"], to=TensorProto.FLOAT),
            helper.make_node("Gather", [f"{name}.scale", ids], [f"{out}.scale"]),
            helper.make_node("Mul", [f"{out}.codes", f"{out}.scale"], [out]),
        ]
    del graph.node[:]
    graph.node.extend(nodes)
