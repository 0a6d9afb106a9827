"""Small synthetic files in dlib's serialisation format."""

import numpy as np


def dlib_integer(value: int) -> bytes:
    size = max(1, (abs(value).bit_length() + 7) // 8)
    return bytes([size | (0x80 if value < 0 else 0)]) + abs(value).to_bytes(size, "little")


def dlib_number(value: float) -> bytes:
    mantissa, exponent = np.frexp(value)
    return dlib_integer(int(mantissa * 2**53)) + dlib_integer(int(exponent) - 53)


def dlib_tensor(values: np.ndarray) -> bytes:
    flat = np.asarray(values, "<f4").ravel()
    return dlib_integer(2) + b"".join(dlib_integer(n) for n in (1, 1, 1, flat.size)) + flat.tobytes()


def layer(name: bytes) -> bytes:
    return bytes([1, len(name)]) + name


def dlib_resnet_file(convolutions, projection: np.ndarray, mean=(122.5, 117.25, 104.125), side: int = 31) -> bytes:
    """A file like dlib's face ResNet: input layer, convolutions (params, affine) and the last layer."""
    parts = [b"\x01\x01head", layer(b"input_rgb_image_sized"), *(dlib_number(m) for m in mean), dlib_integer(side), dlib_integer(side)]
    for params, affine in convolutions:
        parts += [layer(b"con_4"), dlib_tensor(params), b"\x00" * 20, layer(b"affine_"), dlib_tensor(affine)]
    inputs, outputs = projection.shape
    parts += [layer(b"fc_2"), dlib_integer(outputs), dlib_integer(inputs), dlib_tensor(projection), b"tail"]
    return b"".join(parts)
