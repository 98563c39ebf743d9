"""What a .pte file holds: the constants of ExecuTorch's own operators, and those that were given to XNNPACK.

ExecuTorch has no public reader of either; these are the functions that its own writers and tests use.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OWN = {"FLOAT": "float32", "HALF": "float16", "BFLOAT16": "bfloat16", "CHAR": "int8"}
XNNPACK = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "qint8": "int8", "qcint8": "int8"}
READ = {"float32": "f4", "float16": "f2", "bfloat16": "u2", "int8": "i1"}


def constants(file: Path) -> Iterator[tuple[str, Any]]:
    """Give what a file stores of tensors of floats and of int8, each once: its type, and its numbers in a row.

    Numbers in bfloat16 come as the 16 bits that they are.
    """
    from executorch.exir._serialize._program import deserialize_pte_binary

    read = deserialize_pte_binary(file.read_bytes())
    for plan in read.program.execution_plan:
        tensors = (each.val for each in plan.values if hasattr(each.val, "data_buffer_idx"))
        for index, name in {(each.data_buffer_idx, each.scalar_type.name) for each in tensors}:
            if index and name in OWN:
                yield OWN[name], _numbers(read.program.constant_buffer[index].storage, OWN[name])
    seen: set[str] = set()
    for each in read.program.backend_delegate_data:
        graph = _graph(bytes(each.data)) if each.data else {"xvalues": []}
        for value in graph["xvalues"]:
            said = value["xvalue_union"]
            tensor = said.get("tensor_value", said)
            dtype = XNNPACK.get(tensor["datatype"].removeprefix("xnn_datatype_"))
            key = graph["constant_data"][tensor["constant_buffer_idx"]]["named_key"]
            if key and dtype and key not in seen:
                seen.add(key)
                named = read.named_data
                yield dtype, _numbers(named.buffers[named.pte_data[key].buffer_index], dtype)


def _numbers(stored: bytes, dtype: str) -> Any:
    import numpy as np

    return np.frombuffer(stored, READ[dtype])


def _graph(blob: bytes) -> Any:
    """Read what XNNPACK was given, as JSON says it."""
    from executorch.backends.xnnpack.serialization import xnnpack_graph_serialize as xnnpack
    from executorch.exir._serialize._flatbuffer import _flatc_decompile

    header = xnnpack.XNNHeader.from_bytes(blob[: xnnpack.XNNHeader.EXPECTED_LENGTH])
    begin = header.flatbuffer_offset
    with tempfile.TemporaryDirectory(prefix="compressit-") as folder:
        schema, graph = Path(folder) / "schema.fbs", Path(folder) / "graph.bin"
        schema.write_bytes(xnnpack._get_schema_bytes())
        graph.write_bytes(blob[begin : begin + header.flatbuffer_size])
        _flatc_decompile(folder, str(schema), str(graph))
        return json.loads(graph.with_suffix(".json").read_text(encoding="utf-8"))
