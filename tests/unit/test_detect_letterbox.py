"""Pictures become input tensors: size, place, colour order and scale."""

import numpy as np
import pytest

from core.models.spec import InputSpec
from detect.letterbox import fit, shrink, write_tensor

RGB = InputSpec(tensor="input", colour="rgb", mean=0.0, scale=1.0)


@pytest.mark.parametrize(
    ("size", "scale", "content", "canvas"),
    [
        ((1080, 1920), 1 / 3, (360, 640), (384, 640)),
        ((720, 1280), 0.5, (360, 640), (384, 640)),
        ((4000, 3000), 0.16, (640, 480), (640, 480)),
        ((100, 50), 1.0, (100, 50), (128, 64)),
        ((1, 10_000), 0.064, (1, 640), (32, 640)),
        ((1, 1), 1.0, (1, 1), (32, 32)),
    ],
)
def test_fit_shrinks_to_the_side_and_never_enlarges(size, scale, content, canvas):
    box = fit(*size, side_px=640)
    assert (box.scale, box.content_px, box.canvas_px) == (pytest.approx(scale), content, canvas)


def test_fit_into_a_fixed_canvas():
    box = fit(1080, 1920, side_px=320, canvas_px=(640, 640))
    assert (box.content_px, box.canvas_px) == ((360, 640), (640, 640))


@pytest.mark.parametrize("factor", [1, 1.3, 2, 2.7, 3, 6.25])
def test_shrink_keeps_a_ramp_in_place(factor: float):
    side = round(64 * factor)
    ramp = np.tile(np.linspace(0, 255, side)[None, :, None], (side, 1, 3)).astype(np.uint8)
    small = shrink(ramp, (64, 64))
    want = (np.arange(64) + 0.5) * 255 / 64
    assert small.shape == (64, 64, 3)
    assert np.abs(small[32, 2:-2, 0] - want[2:-2]).max() < 6


@pytest.mark.parametrize(("colour", "order"), [("rgb", (0, 1, 2)), ("bgr", (2, 1, 0))])
def test_write_tensor_orders_colours_scales_and_pads_with_zero(colour: str, order: tuple[int, ...]):
    image = np.broadcast_to(np.array([10, 20, 30], np.uint8), (40, 50, 3)).copy()
    box = fit(40, 50, side_px=640)
    out = np.full((3, *box.canvas_px), 99, np.float32)
    write_tensor(image, box, InputSpec(tensor="input", colour=colour, mean=4.0, scale=0.5), out)
    for plane, channel in zip(out, order, strict=True):
        assert (plane[:40, :50] == ([10, 20, 30][channel] - 4) / 2).all()
        assert plane[40:].sum() == plane[:, 50:].sum() == 0


def test_write_tensor_places_pixels():
    image = np.random.default_rng(0).integers(0, 256, (33, 70, 3)).astype(np.uint8)
    box = fit(33, 70, side_px=640)
    out = np.empty((3, *box.canvas_px), np.float32)
    write_tensor(image, box, RGB, out)
    np.testing.assert_array_equal(out[:, :33, :70], image.transpose(2, 0, 1))
