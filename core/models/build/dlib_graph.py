"""dlib's face ResNet as an ONNX graph with its batch norms and input scaling folded in. Pure.

Source: the network definition in dlib's ``dnn_face_recognition_ex.cpp`` (Boost licence): a ResNet with 29 convolutions whose
shortcuts are average pooling and zero padding, and which has no bias in its last layer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from core.errors import ModelError
from core.models.build.dlib_weights import Convolution, DlibResnet

F64 = NDArray[np.float64]
BLOCKS: tuple[tuple[int, bool], ...] = (
    *((32, False),) * 3,
    (64, True),
    *((64, False),) * 3,
    (128, True),
    *((128, False),) * 2,
    (256, True),
    *((256, False),) * 2,
    (256, True),
)
"""Residual blocks in forward order: filters, and whether the block halves the picture."""
STEM_FILTERS = 32
INPUT_SCALE = 256.0
OPSET = 13
IR_VERSION = 8


@dataclass(slots=True)
class _Graph:
    """The graph under construction."""

    nodes: list[NodeProto] = field(default_factory=list)
    weights: list[TensorProto] = field(default_factory=list)

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, op: str, inputs: Sequence[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output


@dataclass(frozen=True, slots=True)
class _Map:
    """A feature map: its tensor and its size."""

    name: str
    channels: int
    side: int


def build_dlib_graph(network: DlibResnet, blocks: Sequence[tuple[int, bool]] = BLOCKS) -> ModelProto:
    """Return the network as ONNX: ``input`` Nx3xSxS float32 RGB 0..255 to ``embedding`` NxD, not normalised.

    Raises:
        ModelError: the weights do not fit the blocks.
    """
    expected = 1 + 2 * len(blocks)
    if len(network.convolutions) != expected:
        raise ModelError(f"dlib file: expected {expected} convolutions, got {len(network.convolutions)}; is it the face ResNet v1?")
    graph, layers = _Graph(), iter(network.convolutions)
    features = _stem(graph, network, next(layers))
    for index, (filters, halve) in enumerate(blocks):
        features = _block(graph, layers, features, f"block{index}", (filters, halve))
    if features.channels != network.projection.shape[0]:
        raise ModelError(f"dlib file: last layer takes {network.projection.shape[0]} values, the network gives {features.channels}")
    pooled = graph.node("GlobalAveragePool", [features.name], "pooled")
    flat = graph.node("Flatten", [pooled], "flat", axis=1)
    graph.node("MatMul", [flat, graph.constant("projection", network.projection)], "embedding")
    return _model(graph, network)


def _model(graph: _Graph, network: DlibResnet) -> ModelProto:
    side, dimensions = network.side_px, network.projection.shape[1]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, side, side])]
    outputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", dimensions])]
    body = helper.make_graph(graph.nodes, "dlib_face_resnet_v1", inputs, outputs, graph.weights)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="sightline")
    model.ir_version = IR_VERSION
    return model


def _stem(graph: _Graph, network: DlibResnet, layer: Convolution) -> _Map:
    """Add 7x7 convolution, Relu and pooling; (pixel - mean) / 256 is folded in, exact because nothing is padded here."""
    weight, bias = _fold(layer, (STEM_FILTERS, 3, 7))
    weight = weight / INPUT_SCALE
    bias = bias - (weight * np.array(network.mean)[None, :, None, None]).sum((1, 2, 3))
    convolved = _convolution(graph, "input", "stem", (weight, bias), stride=2, pad=0)
    relu = graph.node("Relu", [convolved], "stem_relu")
    pooled = graph.node("MaxPool", [relu], "stem_pool", kernel_shape=[3, 3], strides=[2, 2])
    return _Map(pooled, STEM_FILTERS, _shrunk(_shrunk(network.side_px, 7), 3))


def _block(graph: _Graph, layers: Iterator[Convolution], x: _Map, name: str, shape: tuple[int, bool]) -> _Map:
    """Add a residual block: two 3x3 convolutions beside a shortcut; the smaller of the two is padded with zeros."""
    filters, halve = shape
    first = _fold(next(layers), (filters, x.channels, 3))
    y = _convolution(graph, x.name, f"{name}_a", first, stride=2 if halve else 1, pad=0 if halve else 1)
    y = graph.node("Relu", [y], f"{name}_a_relu")
    y = _convolution(graph, y, f"{name}_b", _fold(next(layers), (filters, filters, 3)), stride=1, pad=1)
    shortcut, main = x, _Map(y, filters, _shrunk(x.side, 3) if halve else x.side)
    if halve:
        pooled = graph.node("AveragePool", [x.name], f"{name}_shortcut", kernel_shape=[2, 2], strides=[2, 2])
        shortcut = _Map(pooled, x.channels, _shrunk(x.side, 2))
    side, channels = max(main.side, shortcut.side), max(main.channels, shortcut.channels)
    total = graph.node("Add", [_padded(graph, m, channels, side) for m in (main, shortcut)], f"{name}_sum")
    return _Map(graph.node("Relu", [total], f"{name}_out"), channels, side)


def _padded(graph: _Graph, features: _Map, channels: int, side: int) -> str:
    """Append zero channels, rows and columns up to the given size."""
    if (features.channels, features.side) == (channels, side):
        return features.name
    grow = side - features.side
    pads = np.array([0, 0, 0, 0, 0, channels - features.channels, grow, grow], np.int64)
    name = f"{features.name}_padded"
    return graph.node("Pad", [features.name, graph.constant(f"{name}_by", pads)], name, mode="constant")


def _convolution(graph: _Graph, x: str, name: str, weights: tuple[F64, F64], *, stride: int, pad: int) -> str:
    weight, bias = (graph.constant(f"{name}_{part}", w.astype(np.float32)) for part, w in zip(("w", "b"), weights, strict=True))
    kernel = list(weights[0].shape[2:])
    return graph.node("Conv", [x, weight, bias], name, kernel_shape=kernel, strides=[stride] * 2, pads=[pad] * 4)


def _fold(layer: Convolution, shape: tuple[int, int, int]) -> tuple[F64, F64]:
    """Return weight (out, in, k, k) and bias (out,) of a convolution with its affine layer folded in."""
    outputs, inputs, kernel = shape
    count = outputs * inputs * kernel * kernel
    if len(layer.params) != count + outputs or len(layer.affine) != 2 * outputs:
        raise ModelError(f"dlib file: expected a {outputs}x{inputs}x{kernel}x{kernel} convolution, got {len(layer.params)} values")
    params, affine = layer.params.astype(np.float64), layer.affine.astype(np.float64)
    gamma, beta = affine[:outputs], affine[outputs:]
    weight = params[:count].reshape(outputs, inputs, kernel, kernel) * gamma[:, None, None, None]
    return weight, params[count:] * gamma + beta


def _shrunk(side: int, kernel: int) -> int:
    """Return the side behind an unpadded stride-2 window."""
    return (side - kernel) // 2 + 1
