"""Pruning dead channels changes sizes, never results."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from core.adapters.ort import OrtSession
from core.models.build import graph
from core.models.build.prune import find_bottlenecks, prune_dead_channels
from tests.builders.onnx_models import onnx_model

WIDE = 40


def bottleneck_model(dead: int, *, extra_reader: bool = False) -> onnx.ModelProto:
    """A bottleneck of 40 channels, some of them dead: their depthwise filters are zero, their biases are not."""
    random = np.random.default_rng(dead)

    def normal(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32)

    filters = normal(WIDE, 1, 3, 3)
    filters[random.permutation(WIDE)[:dead]] = 0
    weights = [("w1", normal(WIDE, 3, 1, 1)), ("b1", normal(WIDE)), ("s1", normal(WIDE, 1, 1)), ("w2", filters), ("b2", normal(WIDE))]
    weights += [("s2", normal(WIDE, 1, 1)), ("w3", normal(8, WIDE, 1, 1)), ("b3", normal(8))]
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["wide"]),
        helper.make_node("PRelu", ["wide", "s1"], ["wide_on"]),
        helper.make_node("Conv", ["wide_on", "w2", "b2"], ["deep"], group=WIDE, pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("PRelu", ["deep", "s2"], ["deep_on"]),
        helper.make_node("Conv", ["deep_on", "w3", "b3"], ["y"]),
    ]
    outputs = [("y", [1, 8, 5, 5]), *([("deep_on", [1, WIDE, 5, 5])] if extra_reader else [])]
    return onnx_model(nodes, [("x", [1, 3, 10, 10])], outputs, weights)


def run(model: onnx.ModelProto, path: Path) -> list[np.ndarray]:
    path.write_bytes(graph.serialise(model))
    tensor = np.random.default_rng(9).standard_normal((1, 3, 10, 10)).astype(np.float32)
    return OrtSession(path, provider="cpu", threads=1).run(tensor)


@pytest.mark.parametrize(("dead", "left"), [(0, 40), (5, 40), (8, 32), (10, 32), (39, 16), (40, 16)])
def test_whole_blocks_of_dead_channels_go_and_the_result_stays(tmp_path: Path, dead: int, left: int) -> None:
    """At least one block stays, so that there is a convolution left."""
    model = bottleneck_model(dead)
    expected = run(model, tmp_path / "before.onnx")[0]
    assert prune_dead_channels(model) == WIDE - left
    shapes = {w.name: tuple(w.dims) for w in model.graph.initializer}
    assert (shapes["w1"], shapes["s1"], shapes["w2"], shapes["w3"]) == ((left, 3, 1, 1), (left, 1, 1), (left, 1, 3, 3), (8, left, 1, 1))
    np.testing.assert_allclose(run(model, tmp_path / "after.onnx")[0], expected, rtol=1e-5, atol=1e-5)


def test_channels_that_somebody_else_reads_stay() -> None:
    model = bottleneck_model(20, extra_reader=True)
    assert find_bottlenecks(model) == []
    assert prune_dead_channels(model) == 0
