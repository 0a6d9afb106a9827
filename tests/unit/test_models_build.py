"""Conversion of models: graph rewriting, dlib's file format, quantisation; on small generated graphs."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from core.adapters.ort import OrtSession
from core.errors import ModelError
from core.models.build import faces, graph
from core.models.build.dlib_graph import build_dlib_graph
from core.models.build.dlib_weights import DlibReader, parse_resnet
from core.models.build.quantize import activation_names, measure_ranges, quantise, rounded_scale
from tests.builders.dlib_files import dlib_integer, dlib_number, dlib_resnet_file, dlib_tensor
from tests.builders.onnx_models import arcface_model, onnx_model, prelu_model


def run(model: onnx.ModelProto, tensor: np.ndarray, tmp_path: Path) -> list[np.ndarray]:
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return OrtSession(path, provider="cpu", threads=1).run(tensor)


def pixels(count: int, side: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (count, 3, side, side)).astype(np.float32)


def test_rewritten_prelus_compute_the_same_and_take_batches(tmp_path: Path) -> None:
    model, tensor = prelu_model(), pixels(3, 8)
    expected = np.concatenate([run(model, tensor[i : i + 1], tmp_path)[0] for i in range(3)])
    graph.drop_weights_from_inputs(model)
    graph.make_batch_dynamic(model)
    assert graph.replace_prelus(model) == 1
    rewritten = onnx.load_from_string(graph.serialise(model))
    assert [node.op_type for node in rewritten.graph.node] == ["Conv", "Relu", "Conv", "Conv", "Add", "Reshape"]
    assert {w.name for w in rewritten.graph.initializer} == {"w", "b", "target", "active_through", "active_above"}
    np.testing.assert_allclose(run(rewritten, tensor, tmp_path)[0], expected, atol=1e-5)


def test_a_prelu_with_one_slope_for_all_channels_is_refused() -> None:
    model = prelu_model()
    slope = next(w for w in model.graph.initializer if w.name == "slope")
    slope.CopyFrom(onnx.numpy_helper.from_array(np.zeros(1, np.float32), "slope"))
    with pytest.raises(ModelError, match=r"expected PRelu slopes Cx1x1, got \(1,\)"):
        graph.replace_prelus(model)


def test_a_reshape_that_mixes_pictures_is_refused() -> None:
    model = prelu_model()
    target = next(w for w in model.graph.initializer if w.name == "target")
    target.CopyFrom(onnx.numpy_helper.from_array(np.array([6, 64], np.int64), "target"))
    with pytest.raises(ModelError, match=r"reshapes to \[6, 64\], which does not start with a batch of 1"):
        graph.make_batch_dynamic(model)


def test_only_tiny_weights_are_zeroed() -> None:
    model = onnx_model(
        [onnx.helper.make_node("Mul", ["x", "w"], ["y"])],
        [("x", [4])],
        [("y", [4])],
        [("w", np.array([1e-30, -1e-11, 1e-9, 0], np.float32))],
    )
    assert graph.zero_tiny_weights(model) == 2
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(model.graph.initializer[0]), np.array([0, 0, 1e-9, 0], np.float32))


def test_the_same_model_makes_the_same_bytes() -> None:
    assert graph.serialise(arcface_model()) == graph.serialise(arcface_model())


@pytest.mark.parametrize("value", [0, 1, -1, 255, -256, 2**31, -(2**52)])
def test_dlib_integers(value: int) -> None:
    assert DlibReader(dlib_integer(value)).integer() == value


@pytest.mark.parametrize("value", [0.0, 122.782, -1.5e-3])
def test_dlib_numbers(value: float) -> None:
    assert DlibReader(dlib_number(value)).number() == value


def small_network(seed: int = 0):
    """A stem and one block, as (params, affine) of each convolution."""
    random = np.random.default_rng(seed)
    shapes = [(32, 3, 7), (32, 32, 3), (32, 32, 3)]
    layers = [
        (random.normal(0, 0.2, out * inner * k * k + out), np.concatenate([random.uniform(0.5, 1.5, out), random.normal(0, 0.1, out)]))
        for out, inner, k in shapes
    ]
    return layers, random.normal(0, 1, (32, 8)).astype(np.float32)


def test_a_dlib_file_is_read_to_the_last_value() -> None:
    layers, projection = small_network()
    network = parse_resnet(dlib_resnet_file(layers, projection))
    assert network.mean == (122.5, 117.25, 104.125)
    assert network.side_px == 31
    assert len(network.convolutions) == 3
    np.testing.assert_array_equal(network.convolutions[1].params, layers[1][0].astype(np.float32))
    np.testing.assert_array_equal(network.convolutions[2].affine, layers[2][1].astype(np.float32))
    np.testing.assert_array_equal(network.projection, projection)


def test_a_truncated_dlib_file_is_refused() -> None:
    layers, projection = small_network()
    data = dlib_resnet_file(layers, projection)
    with pytest.raises(ModelError, match=r"dlib file: ends at byte 6000 inside a value"):
        parse_resnet(data[:6000])


def test_another_dlib_file_is_refused() -> None:
    with pytest.raises(ModelError, match=r"no layer input_rgb_image_sized after byte 0; is it the face ResNet v1\?"):
        parse_resnet(b"not dlib at all")


def test_an_absurd_tensor_length_is_refused_before_memory_is_taken() -> None:
    data = dlib_integer(2) + b"".join(dlib_integer(2**40) for _ in range(4))
    with pytest.raises(ModelError, match="is not plausible"):
        DlibReader(data).tensor()
    assert DlibReader(dlib_tensor(np.arange(3))).tensor().tolist() == [0, 1, 2]


def reference_forward(layers, projection: np.ndarray, mean, image: np.ndarray) -> np.ndarray:
    """The small network in plain NumPy, unfolded: the oracle of the converter."""

    def conv(x, params, affine, out, k, stride, pad):
        weight, bias = params[:-out].reshape(out, x.shape[0], k, k), params[-out:]
        x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
        windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(1, 2))[:, ::stride, ::stride]
        y = np.einsum("chwij,ocij->ohw", windows, weight) + bias[:, None, None]
        return y * affine[:out, None, None] + affine[out:, None, None]

    x = (image - np.array(mean)[:, None, None]) / 256
    x = np.maximum(conv(x, *layers[0], 32, 7, 2, 0), 0)
    x = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::2, ::2].max(axis=(3, 4))
    y = conv(np.maximum(conv(x, *layers[1], 32, 3, 1, 1), 0), *layers[2], 32, 3, 1, 1)
    return np.maximum(x + y, 0).mean(axis=(1, 2)) @ projection


def test_the_converted_network_computes_what_the_layers_say(tmp_path: Path) -> None:
    layers, projection = small_network()
    network = parse_resnet(dlib_resnet_file(layers, projection))
    image = np.random.default_rng(3).integers(0, 256, (3, 31, 31)).astype(np.float32)
    model = onnx.load_from_string(graph.serialise(build_dlib_graph(network, blocks=((32, False),))))
    expected = reference_forward(layers, projection, network.mean, image)
    np.testing.assert_allclose(run(model, image[None], tmp_path)[0][0], expected, rtol=1e-4, atol=1e-4)


def test_weights_of_another_network_are_refused() -> None:
    layers, projection = small_network()
    with pytest.raises(ModelError, match="expected 29 convolutions, got 3"):
        build_dlib_graph(parse_resnet(dlib_resnet_file(layers, projection)))


def test_quantised_network_stays_close_and_has_only_int8_filters(tmp_path: Path) -> None:
    layers, projection = small_network()
    model = build_dlib_graph(parse_resnet(dlib_resnet_file(layers, projection)), blocks=((32, False),))
    images = np.random.default_rng(4).integers(0, 256, (8, 3, 31, 31)).astype(np.float32)
    names = activation_names(model)
    assert names == ["input", "stem_relu", "stem_pool", "block0_a_relu", "block0_b", "block0_out"]
    ranges = measure_ranges(
        model, [images], lambda m, batch: dict(zip([o.name for o in m.graph.output], run(m, batch, tmp_path), strict=True))
    )
    assert (ranges["input"].low, ranges["input"].high) == (0, 255)
    small = onnx.load_from_string(graph.serialise(quantise(model, ranges)))
    assert {w.data_type for w in small.graph.initializer if w.name.endswith("_w_q")} == {onnx.TensorProto.INT8}
    assert "Relu" not in {node.op_type for node in small.graph.node}
    exact, quantised = (run(m, images, tmp_path)[0] for m in (model, small))
    cosines = (exact * quantised).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(quantised, axis=1)
    assert cosines.min() > 0.995


@pytest.mark.parametrize(("scale", "rounded"), [(1.0, 1.0), (0.5, 0.5), (0.0, 1.0), (0.3, 0.30029296875)])
def test_scales_are_rounded_up_to_ten_bits(scale: float, rounded: float) -> None:
    assert rounded_scale(scale) == rounded


def test_a_chip_that_is_in_place_is_cut_out_unchanged() -> None:
    image = np.random.default_rng(5).integers(0, 256, (160, 170, 3), dtype=np.uint8)
    smooth = np.repeat(np.repeat(image[:16, :17], 10, axis=0), 10, axis=1)
    chip = faces.cut_chip(smooth, faces.TEMPLATE)
    assert chip.shape == (150, 150, 3)
    np.testing.assert_array_equal(chip[5:145:10, 5:145:10], smooth[5:145:10, 5:145:10])


def test_variations_are_deterministic_and_mirrored_in_pairs() -> None:
    chip = np.random.default_rng(6).integers(0, 256, (150, 150, 3), dtype=np.uint8)
    made = list(faces.variations(chip))
    assert len(made) == 12
    np.testing.assert_array_equal(made[0], chip)
    for plain, mirrored in zip(made[::2], made[1::2], strict=True):
        np.testing.assert_array_equal(plain[:, ::-1], mirrored)
