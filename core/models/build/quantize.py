"""Static int8 quantisation of a convolutional ONNX graph: QuantizeLinear/DequantizeLinear pairs with ranges from real faces.

Pure but for the runner that is passed in. Weights: int8, symmetric, per output channel. Activations: uint8, one scale per
tensor. Source: Jacob et al. 2018 (arXiv:1712.05877) for the scheme; percentile ranges as in Wu et al. 2020 (arXiv:2004.09602).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from core.types import F32

PERCENTILE = 99.999
"""Of the activations kept inside the range; the rest saturate. The maximum would stretch the scale for a handful of outliers."""
KEEPS_SCALE = ("MaxPool", "AveragePool", "Pad", "Relu")
"""Operators whose output lies in the range of their input: one scale for both, so nothing is lost between them."""
COMPUTES = ("Conv", "Add")
SCALE_BITS = 10
"""Scales are rounded to this many bits, so that another CPU's last-digit differences give the same file."""

Runner = Callable[[ModelProto, F32], dict[str, NDArray[np.float32]]]
"""Runs a model on a batch and returns its outputs by name."""


@dataclass(frozen=True, slots=True)
class Range:
    """Range of one tensor: where almost all of its values lie."""

    low: float
    high: float


PIXELS = Range(0.0, 255.0)


def activation_names(model: ModelProto) -> list[str]:
    """Return the tensors to quantise: the input, and what convolutions, sums and what lies between them put out.

    A tensor that only a Relu reads is left alone: quantised with zero as its lowest value, the Relu's output does its work. What
    follows the last convolution (pooling, projection) stays float: it costs nothing and decides the last digits.
    """
    relu_only = {node.input[0] for node in model.graph.node if node.op_type == "Relu"}
    names = [model.graph.input[0].name]
    names += [node.output[0] for node in model.graph.node if node.op_type in (*COMPUTES, *KEEPS_SCALE)]
    return [name for name in names if name not in relu_only]


def measure_ranges(model: ModelProto, batches: Sequence[F32], run: Runner) -> dict[str, Range]:
    """Return the range of each tensor to quantise over all batches; pixels keep all of 0..255, and so stay exact."""
    names = activation_names(model)
    watched = ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names[1:])
    tails = {name: _Tails() for name in names[1:]}
    for batch in batches:
        for name, values in run(watched, batch).items():
            tails[name].add(values)
    return {names[0]: PIXELS, **{name: tail.range() for name, tail in tails.items()}}


class _Tails:
    """The extreme values of a tensor, enough of them to read the percentile off exactly. Thread rule: one thread."""

    def __init__(self) -> None:
        self._low = np.zeros(0, np.float32)
        self._high = np.zeros(0, np.float32)
        self._count = 0

    def add(self, values: NDArray[np.float32]) -> None:
        """Take a batch's values into account."""
        flat = values.ravel()
        self._count += flat.size
        keep = int(np.ceil(self._count * (1 - PERCENTILE / 100))) + 1
        self._low = np.sort(np.concatenate([self._low, _smallest(flat, keep)]))[:keep]
        self._high = -np.sort(np.concatenate([-self._high, _smallest(-flat, keep)]))[:keep]

    def range(self) -> Range:
        """Return the values that the given share of all values lies between."""
        beyond = int(self._count * (1 - PERCENTILE / 100))
        return Range(min(0.0, float(self._low[beyond])), max(0.0, float(self._high[beyond])))


def _smallest(values: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    return values if values.size <= count else np.partition(values, count - 1)[:count]


def quantise(model: ModelProto, ranges: dict[str, Range]) -> ModelProto:
    """Return a copy of the model in int8.

    Args:
        model: float32 model of Conv (with bias), Add, Relu, pooling and Pad nodes, in topological order.
        ranges: of every tensor that ``activation_names`` lists.
    """
    return _Quantiser(model, ranges).result()


@dataclass(frozen=True, slots=True)
class _Scale:
    """Scale and zero point of a quantised tensor, and the names of the constants that hold them."""

    scale: float
    names: tuple[str, str]


class _Quantiser:
    """Builds the quantised graph node by node."""

    def __init__(self, model: ModelProto, ranges: dict[str, Range]) -> None:
        self._model = model
        self._ranges = ranges
        self._weights = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
        self._kept: dict[str, NDArray[np.generic]] = {}
        self._nodes: list[NodeProto] = []
        self._scales: dict[str, _Scale] = {}
        self._float: dict[str, str] = {}
        """Dequantised name of each quantised tensor."""

    def result(self) -> ModelProto:
        """Return the quantised model."""
        graph = self._model.graph
        self._quantise_tensor(graph.input[0].name, graph.input[0].name, self._new_scale(graph.input[0].name))
        for node in graph.node:
            self._add(node)
        made = ModelProto()
        made.CopyFrom(self._model)
        del made.graph.node[:], made.graph.initializer[:], made.graph.value_info[:]
        made.graph.node.extend(self._nodes)
        made.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in self._kept.items())
        return made

    def _add(self, node: NodeProto) -> None:
        copy = NodeProto()
        copy.CopyFrom(node)
        source = node.input[0]
        inputs = [self._float.get(name, name) for name in node.input]
        if node.op_type == "Conv":
            inputs[1:] = self._quantise_filters(node, self._scales[source].scale)
        copy.input[:] = inputs
        self._kept.update({name: self._weights[name] for name in inputs if name in self._weights})
        output = node.output[0]
        if node.op_type == "Relu" and source not in self._scales:  # saturation at zero does the Relu's work
            self._quantise_tensor(output, inputs[0], self._new_scale(output))
        elif output not in self._ranges:  # read by a Relu only, or behind the last convolution
            self._nodes.append(copy)
        else:
            copy.output[0] = f"{output}_exact"
            self._nodes.append(copy)
            shares = node.op_type in KEEPS_SCALE and source in self._scales
            self._quantise_tensor(output, copy.output[0], self._scales[source] if shares else self._new_scale(output))

    def _new_scale(self, name: str) -> _Scale:
        found = self._ranges[name]
        scale = rounded_scale((found.high - found.low) / 255)
        zero = int(np.clip(np.rint(-found.low / scale), 0, 255))
        names = (self._keep(f"{name}_scale", np.float32(scale)), self._keep(f"{name}_zero", np.uint8(zero)))
        return _Scale(scale, names)

    def _quantise_tensor(self, name: str, exact: str, scale: _Scale) -> None:
        """Put a quantise/dequantise pair behind a tensor."""
        self._scales[name] = scale
        self._float[name] = f"{name}_float"
        self._nodes.append(helper.make_node("QuantizeLinear", [exact, *scale.names], [f"{name}_q"], name=f"{name}_q"))
        self._nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", *scale.names], [f"{name}_float"], name=f"{name}_float"))

    def _quantise_filters(self, node: NodeProto, input_scale: float) -> list[str]:
        """Add a convolution's weight as int8 and its bias as int32; return the names of their float versions."""
        weight, bias = (self._weights[name].astype(np.float64) for name in node.input[1:3])
        largest = np.abs(weight).max(axis=(1, 2, 3))
        scale = np.where(largest > 0, largest / 127, 1.0).astype(np.float32)
        quantised = np.clip(np.rint(weight / scale[:, None, None, None].astype(np.float64)), -127, 127).astype(np.int8)
        bias_scale = (scale * np.float32(input_scale)).astype(np.float32)
        limits = np.iinfo(np.int32)
        bias_quantised = np.clip(np.rint(bias / bias_scale.astype(np.float64)), limits.min, limits.max).astype(np.int32)
        weight_name = self._dequantise_constant(node.input[1], quantised, scale)
        return [weight_name, self._dequantise_constant(node.input[2], bias_quantised, bias_scale)]

    def _dequantise_constant(self, name: str, value: NDArray[np.generic], scale: NDArray[np.float32]) -> str:
        inputs = [
            self._keep(f"{name}_q", value),
            self._keep(f"{name}_scale", scale),
            self._keep(f"{name}_zero", np.zeros(scale.shape, value.dtype)),
        ]
        self._nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{name}_float"], name=f"{name}_float", axis=0))
        return f"{name}_float"

    def _keep(self, name: str, value: NDArray[np.generic] | np.generic) -> str:
        self._kept[name] = np.asarray(value)
        return name


def rounded_scale(scale: float) -> float:
    """Return a scale rounded up to SCALE_BITS significant bits (so that the range is never cut), 1 for an empty range."""
    if scale <= 0:
        return 1.0
    mantissa, exponent = np.frexp(scale)
    return float(np.ldexp(np.ceil(mantissa * 2**SCALE_BITS - 1e-3) / 2**SCALE_BITS, exponent))


def input_of(chips: NDArray[np.uint8]) -> F32:
    """Return chips (N, H, W, 3) uint8 as the model's input (N, 3, H, W) float32 0..255."""
    return np.ascontiguousarray(chips.transpose(0, 3, 1, 2), np.float32)
