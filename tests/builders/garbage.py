"""Hostile and damaged pictures, generated from a seed."""

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import PIL.Image


def good_files(rng: np.random.Generator) -> dict[str, bytes]:
    """Return small valid files of every format."""
    pixels = rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)
    files = {}
    for kind, options in {
        "JPEG": {"quality": 80},
        "PNG": {},
        "WEBP": {"quality": 70},
        "BMP": {},
        "GIF": {},
        "PPM": {},
        "TIFF": {},
    }.items():
        file = io.BytesIO()
        PIL.Image.fromarray(pixels).save(file, kind, **options)
        files[kind] = file.getvalue()
    extra = {
        "progressive": ("JPEG", {"progressive": True}),
        "lzw": ("TIFF", {"compression": "tiff_lzw"}),
        "interlaced": ("PNG", {"optimize": True}),
    }
    for name, (kind, options) in extra.items():
        file = io.BytesIO()
        exif = PIL.Image.Exif()
        exif[0x0112] = 6
        exif[0x010E] = "x" * 60
        PIL.Image.fromarray(pixels).save(file, kind, exif=exif, **options)
        files[name] = file.getvalue()
    files["pgm text"] = b"P2\n4 2\n9\n1 2 3 4 5 6 7 8\n"
    files["zip"] = b"PK\x03\x04" + rng.bytes(100)
    files["mp4"] = b"\x00\x00\x00\x18ftypisom" + rng.bytes(200)
    return files


def garbage(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Yield (what, bytes): mutated files, noise behind every magic, giant dimensions, bombs, empty and truncated files."""
    rng = np.random.default_rng(seed)
    files = good_files(rng)
    kinds = list(files)
    makers = (_truncated, _flipped, _spliced, _noise_behind_magic, _shuffled, _repeated)
    bombs = [*_bombs()]
    for number in range(count):
        kind = kinds[int(rng.integers(len(kinds)))]
        if number % 50 == 0:
            yield bombs[number // 50 % len(bombs)]
        elif number % 97 == 0:
            yield "empty", b""
        else:
            maker = makers[int(rng.integers(len(makers)))]
            yield f"{maker.__name__} {kind}", maker(files[kind], rng)


def _truncated(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(0, len(data)))]


def _flipped(data: bytes, rng: np.random.Generator) -> bytes:
    out = bytearray(data)
    for place in rng.integers(0, len(out), int(rng.integers(1, 12))):
        out[place] = int(rng.integers(256))
    return bytes(out)


def _spliced(data: bytes, rng: np.random.Generator) -> bytes:
    place = int(rng.integers(0, len(data)))
    return data[:place] + rng.bytes(int(rng.integers(1, 64))) + data[place + int(rng.integers(0, 8)) :]


def _noise_behind_magic(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(2, 40))] + rng.bytes(int(rng.integers(0, 600)))


def _shuffled(data: bytes, rng: np.random.Generator) -> bytes:
    head = min(20, len(data))
    return data[:head] + bytes(rng.permutation(np.frombuffer(data[head:], np.uint8)))


def _repeated(data: bytes, rng: np.random.Generator) -> bytes:
    a, b = sorted(int(v) for v in rng.integers(0, len(data), 2))
    return data[:b] + data[a:b] * int(rng.integers(1, 20)) + data[b:]


def _bombs() -> Iterator[tuple[str, bytes]]:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    def png(width: int, height: int, body: bytes, *more: bytes) -> bytes:
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", zlib.compress(body, 9)) + chunk(b"IEND", b"")

    zeros = bytes(1 << 22)
    yield "png of 2 gigapixels", png(60_000, 40_000, zeros)
    yield "png of 63 megapixels without pixels", png(8_000, 7_900, b"")
    yield "png with a text bomb", png(8, 8, bytes(8 * 25), chunk(b"zTXt", b"a\x00\x00" + zlib.compress(bytes(1 << 26), 9)))
    yield "png with a profile bomb", png(8, 8, bytes(8 * 25), chunk(b"iCCP", b"a\x00\x00" + zlib.compress(bytes(1 << 26), 9)))
    yield "png of max size", png(0x7FFFFFFF, 0x7FFFFFFF, zeros)
    yield "png of no size", png(0, 0, b"")
    yield (
        "bmp of 4 gigapixels",
        b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, 65_000, 65_000, 1, 24, 0, 0, 0, 0, 0, 0),
    )
    yield (
        "gif of 65535",
        b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0) + b",\x00\x00\x00\x00\xff\xff\xff\xff\x00\x08" + bytes(9),
    )
    yield "ppm of a terapixel", b"P6 1000000 1000000 255\n"
    yield "ppm with a long number", b"P6 " + b"9" * 100_000 + b" 1 255\n"
    yield "ppm text without end", b"P3 5000 5000 255\n" + b"1 " * 1000
    yield "jpeg of 65500", b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xdc\xff\xdc\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01\xff\xd9"
    yield (
        "tiff that points at itself",
        b"II*\x00\x08\x00\x00\x00" + struct.pack("<H", 1) + struct.pack("<HHII", 0x014A, 4, 1, 8) + struct.pack("<I", 8),
    )
    yield (
        "tiff of many strips",
        b"II*\x00\x08\x00\x00\x00"
        + struct.pack("<H", 3)
        + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in ((256, 0x7FFFFFFF), (257, 0x7FFFFFFF), (278, 1)))
        + bytes(4),
    )
    yield "webp of lies", b"RIFF\xff\xff\xff\xffWEBPVP8X\x0a\x00\x00\x00\x10\x00\x00\x00\xff\xff\xff\xff\xff\xff"
    yield "zip bomb", b"PK\x03\x04" + zlib.compress(zeros, 9)
    yield "half a megabyte of noise", np.random.default_rng(0).bytes(1 << 19)
