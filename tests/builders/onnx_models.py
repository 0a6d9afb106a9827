"""Small generated ONNX graphs with the inputs and outputs of real models."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

OPSET = 13


def onnx_model(nodes, inputs, outputs, weights=()) -> ModelProto:
    """A model of float tensors; inputs and outputs are (name, shape), weights (name, array)."""
    made = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in part] for part in (inputs, outputs)]
    initialisers = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights]
    graph = helper.make_graph(nodes, "generated", *made, initialisers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = 8
    return model


def arcface_model(dimensions: int = 512, seed: int = 0, batch: int | str = "N") -> ModelProto:
    """Like w600k_r50.onnx: Nx3x112x112 to Nx512."""
    filters = np.random.default_rng(seed).standard_normal((dimensions, 3, 16, 16)).astype(np.float32) * 0.02
    nodes = [
        helper.make_node("Conv", ["input.1", "w"], ["features"], strides=[16, 16]),
        helper.make_node("GlobalMaxPool", ["features"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["683"], axis=1),
    ]
    return onnx_model(nodes, [("input.1", [batch, 3, 112, 112])], [("683", [batch, dimensions])], [("w", filters)])


def scrfd_model(*, landmarks: bool = True, side: int | str = "?") -> ModelProto:
    """Like det_10g.onnx: 1x3xHxW to scores, boxes and points of two anchors per cell at strides 8, 16, 32, without a batch axis."""
    nodes, outputs, weights = [], [], []
    for kind, width in (("score", 1), ("bbox", 4), ("kps", 10))[: 3 if landmarks else 2]:
        weights.append((f"{kind}_rows", np.array([-1, width], np.int64)))
        for stride in (8, 16, 32):
            name = f"{kind}_{stride}"
            filters = np.full((2 * width, 3, stride, stride), 1e-4, np.float32)
            weights.append((f"{name}_w", filters))
            nodes += [
                helper.make_node("Conv", ["input.1", f"{name}_w"], [f"{name}_map"], strides=[stride, stride]),
                helper.make_node("Transpose", [f"{name}_map"], [f"{name}_last"], perm=[0, 2, 3, 1]),
                helper.make_node("Reshape", [f"{name}_last", f"{kind}_rows"], [f"{name}_flat"]),
                helper.make_node("Sigmoid", [f"{name}_flat"], [name]),
            ]
            outputs.append((name, ["anchors_" + name, width]))
    return onnx_model(nodes, [("input.1", [1, 3, side, side])], outputs, weights)


def landmark_model() -> ModelProto:
    """Like 2d106det.onnx: a model of a pack that is neither detector nor embedder."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["data"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["fc1"], axis=1),
    ]
    return onnx_model(nodes, [("data", ["N", 3, 192, 192])], [("fc1", ["N", 3])])


def prelu_model(channels: int = 6, seed: int = 0) -> ModelProto:
    """Convolution, PRelu and a Reshape to a fixed batch of 1, as old exporters write them: an unused weight, weights as inputs."""
    random = np.random.default_rng(seed)
    weights: Sequence = [
        ("w", random.standard_normal((channels, 3, 3, 3)).astype(np.float32)),
        ("b", random.standard_normal(channels).astype(np.float32)),
        ("slope", random.uniform(-0.5, 1.5, (channels, 1, 1)).astype(np.float32)),
        ("target", np.array([1, -1], np.int64)),
        ("num_batches_tracked", np.zeros(1, np.float32)),
    ]
    nodes = [
        helper.make_node("Conv", ["input", "w", "b"], ["features"], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        helper.make_node("PRelu", ["features", "slope"], ["active"]),
        helper.make_node("Reshape", ["active", "target"], ["output"]),
    ]
    inputs = [("input", [1, 3, 8, 8]), ("w", [channels, 3, 3, 3])]
    return onnx_model(nodes, inputs, [("output", [1, channels * 64])], weights)


def pack(path: Path, **models) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, model in models.items():
            made.writestr(f"{path.stem}/{name}.onnx", model.SerializeToString())
    return path


def buffalo(path: Path) -> Path:
    """A pack as InsightFace publishes them."""
    return pack(path, det_10g=scrfd_model(), w600k_r50=arcface_model(), **{"2d106det": landmark_model()})
