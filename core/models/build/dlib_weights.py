"""Reading dlib's serialised face ResNet (``dlib_face_recognition_resnet_model_v1.dat``). Pure: bytes in, arrays out.

Source: the format of dlib's ``serialize()`` (Boost licence), read from its documentation and the file itself: integers
are a control byte (low nibble = number of bytes, top bit = sign) and little-endian bytes; floats are a mantissa and a binary
exponent, both integers; a tensor is version 2, four lengths (n, k, rows, columns) and float32 values; layers carry a name.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.errors import ModelError
from core.types import F32

TENSOR_VERSION = 2
MAX_TENSOR_VALUES = 64_000_000
"""Above any tensor of this network (2.4 million), so that a damaged length is an error and not an allocation."""
AFFINE_WITHIN_BYTES = 200
"""An affine layer follows its convolution within this distance; farther means that the file is not the expected network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolution:
    """A convolution and the affine layer (a frozen batch norm) behind it, as stored: flat."""

    params: F32
    """Filter weights (out, in, k, k), then one bias per filter."""
    affine: F32
    """Gamma per filter, then beta per filter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DlibResnet:
    """The weights of the network. Convolutions come in the file's order, which is that of the forward pass."""

    mean: tuple[float, float, float]
    """Subtracted from R, G, B before dividing by 256."""
    side_px: int
    convolutions: tuple[Convolution, ...]
    projection: F32
    """(inputs, outputs) of the last, fully connected layer; it has no bias."""


class DlibReader:
    """Reads values one after the other. Thread rule: one thread."""

    def __init__(self, data: bytes, position: int = 0) -> None:
        self.data = data
        self.position = position

    def integer(self) -> int:
        """Read an integer."""
        control = self._take(1)[0]
        length = control & 0x0F
        if not 1 <= length <= 8:
            raise ModelError(f"dlib file: byte {self.position}: expected an integer of 1 to 8 bytes, got {length}")
        value = int.from_bytes(self._take(length), "little")
        return -value if control & 0x80 else value

    def number(self) -> float:
        """Read a floating-point number."""
        mantissa, exponent = self.integer(), self.integer()
        return float(mantissa) * 2.0**exponent

    def tensor(self) -> F32:
        """Read a tensor; return its values, flat."""
        version = self.integer()
        if version != TENSOR_VERSION:
            raise ModelError(f"dlib file: byte {self.position}: expected a tensor of version {TENSOR_VERSION}, got {version}")
        lengths = [self.integer() for _ in range(4)]
        values = int(np.prod(np.array(lengths, dtype=object)))
        if min(lengths) < 0 or values > MAX_TENSOR_VALUES:
            raise ModelError(f"dlib file: byte {self.position}: tensor of {'x'.join(map(str, lengths))} is not plausible")
        return np.frombuffer(self._take(4 * values), "<f4").astype(np.float32)

    def find(self, name: bytes, *, optional: bool = False) -> bool:
        """Move behind the next layer of this name; False when there is none and it is optional."""
        tag = bytes([1, len(name)]) + name
        start = self.data.find(tag, self.position)
        if start < 0:
            if optional:
                return False
            raise ModelError(f"dlib file: no layer {name.decode()} after byte {self.position}; is it the face ResNet v1?")
        self.position = start + len(tag)
        return True

    def _take(self, length: int) -> bytes:
        end = self.position + length
        if end > len(self.data):
            raise ModelError(f"dlib file: ends at byte {len(self.data)} inside a value that starts at {self.position}")
        taken = self.data[self.position : end]
        self.position = end
        return taken


def parse_resnet(data: bytes) -> DlibResnet:
    """Read the face ResNet.

    Raises:
        ModelError: truncated, or not this network.
    """
    reader = DlibReader(data)
    reader.find(b"input_rgb_image_sized")
    mean = (reader.number(), reader.number(), reader.number())
    rows, columns = reader.integer(), reader.integer()
    if rows != columns:
        raise ModelError(f"dlib file: expected a square input, got {rows}x{columns}")
    convolutions = []
    while reader.find(b"con_4", optional=True):
        params = reader.tensor()
        behind = reader.position
        reader.find(b"affine_")
        if reader.position - behind > AFFINE_WITHIN_BYTES:
            raise ModelError(f"dlib file: the convolution before byte {behind} has no affine layer; is it the face ResNet v1?")
        convolutions.append(Convolution(params=params, affine=reader.tensor()))
    return DlibResnet(mean=mean, side_px=rows, convolutions=tuple(convolutions), projection=_projection(reader))


def _projection(reader: DlibReader) -> NDArray[np.float32]:
    """Read the last layer."""
    reader.find(b"fc_2")
    outputs, inputs = reader.integer(), reader.integer()
    values = reader.tensor()
    if outputs <= 0 or inputs <= 0 or len(values) != inputs * outputs:
        raise ModelError(f"dlib file: last layer has {len(values)} weights, expected {inputs}x{outputs} without bias")
    return values.reshape(inputs, outputs)
