"""Graphs in ONNX files: with their weights, or where one file cannot hold them with the weights in a file beside it."""

from pathlib import Path

import onnx
from onnx import ModelProto

LARGEST_FILE = 2**31 - 2**20  # bytes: protobuf ends at 2 GiB
SMALLEST_APART = 1024  # bytes: smaller tensors stay in the graph, where exporters and sessions read shapes from them


def save_graph(model: ModelProto, path: Path) -> None:
    """Write a graph whose weights are in memory; weights of more than `LARGEST_FILE` go to `PATH.data`.

    An earlier file of that name is replaced. The weights of a model that was written apart are no longer in it.
    """
    beside = path.with_name(f"{path.name}.data")
    beside.unlink(missing_ok=True)  # onnx would add to it
    apart = sum(each.ByteSize() for each in model.graph.initializer) > LARGEST_FILE
    onnx.save(
        model,
        str(path),
        save_as_external_data=apart,
        all_tensors_to_one_file=True,
        location=beside.name,
        size_threshold=SMALLEST_APART,
    )
