"""Tensors of the Open Inference Protocol: texts in, numbers out, as JSON or by the extension for binary data.

A binary BYTES tensor is its elements one after another, each with its length before it, in four bytes, little endian.
Must not know models.
"""

import math
import struct
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from service.api.list_type import Many
from service.errors import InvalidRequestError, TooLargeError

LENGTH = struct.Struct("<I")
MOST_DIMENSIONS = 16
# Of a dimension or of bytes. The product of unbounded ones takes seconds, and their sum may be too long to be written.
Size = Annotated[int, Field(strict=True, ge=0, lt=2**31)]
DTYPES = {"FP64": np.dtype("<f8"), "INT64": np.dtype("<i8")}


class TensorParameters(BaseModel):
    """What is said of one tensor; other parameters are ignored."""

    binary_data_size: Size | None = Field(
        default=None, description="bytes of the tensor behind the JSON; no `data` then"
    )


class InputTensor(BaseModel):
    """Texts: `query`, `candidate` or `language`."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["query", "candidate", "language"]
    shape: Many[Size] = Field(
        max_length=MOST_DIMENSIONS, description="any shape that holds the elements: they are read row by row"
    )
    datatype: Literal["BYTES"]
    data: Many[Any] | None = Field(None, description="the texts, flat or nested as `shape` says")
    parameters: TensorParameters = TensorParameters()

    def texts(self, binary: bytes, most: int) -> list[str]:
        """Return the elements, those of a binary tensor from its bytes.

        Raises InvalidRequestError, and TooLargeError for over `most` elements.
        """
        if self.parameters.binary_data_size is None:
            found = _flat(self.name, self.data or [])
        elif self.data is not None:
            raise InvalidRequestError(f"input {self.name!r}: has `data` and `binary_data_size`; expected one of them")
        else:
            found = _decoded(self.name, binary, most)
        if math.prod(self.shape) != len(found):
            raise InvalidRequestError(f"input {self.name!r}: {len(found)} elements, expected {self.shape} (`shape`)")
        return found


def split(inputs: Sequence[InputTensor], binary: bytes) -> list[bytes]:
    """Return each input's part of the bytes behind the JSON. Raises InvalidRequestError where sizes do not add up."""
    sizes = [tensor.parameters.binary_data_size or 0 for tensor in inputs]
    if sum(sizes) != len(binary):
        expected = f"expected {sum(sizes)} (binary_data_size)"
        raise InvalidRequestError(f"body: {len(binary)} bytes behind the JSON, {expected}")
    ends = np.cumsum(sizes).tolist()
    return [binary[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def output(name: str, datatype: str, values: NDArray[Any], *, binary: bool) -> tuple[dict[str, Any], bytes]:
    """Return an output tensor as JSON and, where `binary`, the bytes that go behind the JSON."""
    tensor: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(values.shape)}
    if not binary:
        return tensor | {"data": values.tolist()}, b""
    content = values.astype(DTYPES[datatype]).tobytes()
    return tensor | {"parameters": {"binary_data_size": len(content)}}, content


def _flat(name: str, data: list[Any]) -> list[str]:
    """Return the texts of nested lists, row by row."""
    while data and all(isinstance(each, list) for each in data):
        data = [each for row in data for each in row]
    place = next((place for place, each in enumerate(data) if not isinstance(each, str)), None)
    if place is not None:
        raise InvalidRequestError(f"input {name!r}: element {place} is no text; expected strings")
    return data


def _decoded(name: str, content: bytes, most: int) -> list[str]:
    found: list[str] = []
    place = 0
    while place < len(content):
        if len(found) == most:
            raise TooLargeError(f"input {name!r}: over {most} elements, expected at most {most}")
        if place + LENGTH.size > len(content):
            raise InvalidRequestError(f"input {name!r}: its bytes end within the length of element {len(found)}")
        (size,) = LENGTH.unpack_from(content, place)
        place += LENGTH.size
        if place + size > len(content):
            raise InvalidRequestError(f"input {name!r}: element {len(found)} has {size} bytes, expected what is left")
        try:
            found.append(content[place : place + size].decode())
        except UnicodeDecodeError:
            raise InvalidRequestError(f"input {name!r}: element {len(found)} is no UTF-8 text") from None
        place += size
    return found
