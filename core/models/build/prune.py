"""Removing channels that training left dead, without changing what a graph computes. Pure: models in, models changed in place."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

CHANNEL_BLOCK = 16
"""Channels are kept in whole blocks of this size: onnxruntime's fast convolutions work on 16 channels at once (AVX-512; 8 with AVX2)
and fall back to slow ones for other counts."""

Weights = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """A stretch of a MobileFaceNet: convolution, PRelu, depthwise convolution, PRelu, 1x1 convolution; nothing else reads in between."""

    widen: NodeProto
    first_slope: NodeProto
    depthwise: NodeProto
    second_slope: NodeProto
    narrow: NodeProto


def prune_dead_channels(model: ModelProto) -> int:
    """Remove the channels whose depthwise filter is all zero; return how many.

    Such a channel is the constant prelu(bias) wherever it goes, so its share of the next convolution moves into that
    convolution's bias, exactly. In fr_feature more than half of the channels at 14x14 are dead.
    """
    weights = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
    pruned = 0
    for part in find_bottlenecks(model):
        filters = weights[part.depthwise.input[1]]
        dead = ~np.abs(filters).reshape(len(filters), -1).any(axis=1)
        live = int((~dead).sum())
        spare = -live % CHANNEL_BLOCK if live else CHANNEL_BLOCK
        dead[np.flatnonzero(dead)[:spare]] = False
        if dead.any():
            _remove(part, dead, weights)
            pruned += int(dead.sum())
    for initialiser in model.graph.initializer:
        initialiser.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(weights[initialiser.name]), initialiser.name))
    del model.graph.value_info[:]
    return pruned


def find_bottlenecks(model: ModelProto) -> list[Bottleneck]:
    """Return the stretches that can be pruned, in graph order."""
    makers = {output: node for node in model.graph.node for output in node.output}
    readers: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {output.name for output in model.graph.output}

    def only_reader(node: NodeProto, op: str) -> NodeProto | None:
        found = readers.get(node.output[0], [])
        return found[0] if len(found) == 1 and found[0].op_type == op and node.output[0] not in outputs else None

    parts = []
    for widen in (node for node in model.graph.node if node.op_type == "Conv" and len(node.input) == 3):
        chain = [widen]
        for op in ("PRelu", "Conv", "PRelu", "Conv"):
            following = only_reader(chain[-1], op)
            if following is None or (op == "Conv" and len(following.input) != 3):
                break
            chain.append(following)
        if len(chain) == 5 and group(widen) == 1 and group(chain[2]) > 1 and group(chain[4]) == 1 and makers[chain[4].input[0]] is chain[3]:
            parts.append(Bottleneck(*chain))
    return parts


def group(node: NodeProto) -> int:
    """Return the groups of a convolution."""
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == "group"), 1)


def _remove(part: Bottleneck, dead: NDArray[np.bool_], weights: Weights) -> None:
    """Cut the dead channels out of all five nodes, and move their constant into the last one's bias."""
    bias = weights[part.depthwise.input[2]].astype(np.float64)
    slope = weights[part.second_slope.input[1]].reshape(-1).astype(np.float64)
    constant = np.where(bias > 0, bias, slope * bias)
    narrow = weights[part.narrow.input[1]]
    moved = narrow[:, dead, 0, 0].astype(np.float64) @ constant[dead]
    weights[part.narrow.input[2]] = (weights[part.narrow.input[2]] + moved).astype(np.float32)
    weights[part.narrow.input[1]] = narrow[:, ~dead]
    for name in (*part.widen.input[1:], part.first_slope.input[1], *part.depthwise.input[1:], part.second_slope.input[1]):
        weights[name] = weights[name][~dead]
    kept = [attribute for attribute in part.depthwise.attribute if attribute.name != "group"]
    del part.depthwise.attribute[:]
    part.depthwise.attribute.extend([*kept, helper.make_attribute("group", int((~dead).sum()))])
