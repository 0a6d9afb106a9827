"""onnxruntime behind its door: shapes, providers, threads, and one line for every failure."""

from pathlib import Path

import numpy as np
import pytest

from core.adapters.ort import OrtSession, available_providers, cgroup_cpus, choose_provider, int8_saturates, machine_threads
from core.errors import ModelError
from tests.builders.onnx_models import arcface_model


@pytest.fixture
def embedder(tmp_path: Path) -> Path:
    path = tmp_path / "embedder.onnx"
    path.write_bytes(arcface_model().SerializeToString())
    return path


def test_a_model_is_loaded_and_run(embedder: Path) -> None:
    session = OrtSession(embedder, provider="cpu", threads=1)
    assert (session.provider, session.input_shape) == ("cpu", (None, 3, 112, 112))
    assert [output.shape for output in session.outputs] == [(None, 512)]
    assert session.run(np.zeros((2, 3, 112, 112), np.float32))[0].shape == (2, 512)


def test_threads_do_not_change_the_result(embedder: Path) -> None:
    tensor = np.random.default_rng(0).standard_normal((4, 3, 112, 112)).astype(np.float32)
    one, two = (OrtSession(embedder, provider="auto", threads=n).run(tensor)[0] for n in (1, 2))
    np.testing.assert_allclose(one, two, rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "dtype", "got"),
    [
        ((2, 3, 100, 112), np.float32, "2x3x100x112 float32"),
        ((3, 112, 112), np.float32, "3x112x112 float32"),
        ((1, 3, 112, 112), np.uint8, "1x3x112x112 uint8"),
    ],
)
def test_a_wrong_input_names_expected_and_actual(embedder: Path, shape: tuple[int, ...], dtype: type, got: str) -> None:
    session = OrtSession(embedder, provider="cpu", threads=1)
    with pytest.raises(ModelError, match=f"embedder.onnx: expected input Nx3x112x112 float32, got {got}"):
        session.run(np.zeros(shape, dtype))


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"not a model"])
def test_a_bad_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"bad\.onnx: cannot be loaded: [^\n]+$"):
        OrtSession(tmp_path / "bad.onnx", provider="cpu", threads=1)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.onnx: cannot be loaded"):
        OrtSession(tmp_path / "gone.onnx", provider="cpu", threads=1)


def test_a_provider_by_name_is_never_replaced_silently() -> None:
    assert choose_provider("auto") == available_providers()[0]
    assert choose_provider("cpu") == "cpu"
    with pytest.raises(ModelError, match="provider npu: unknown; use auto, tensorrt, cuda, cpu"):
        choose_provider("npu")
    if "cuda" not in available_providers():
        with pytest.raises(ModelError, match=r"provider cuda: not in this onnxruntime \(has cpu\); install sightline\[gpu\]"):
            choose_provider("cuda")


def test_threads_come_from_the_machine() -> None:
    assert machine_threads() >= 1


@pytest.mark.parametrize(("text", "cpus"), [("max 100000\n", None), ("150000 100000\n", 1.5), ("garbage\n", None)])
def test_cgroup_v2_quota(tmp_path: Path, text: str, cpus: float | None) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert cgroup_cpus(tmp_path / "cpu.max", tmp_path) == cpus


@pytest.mark.parametrize(("quota", "cpus"), [("-1", None), ("200000", 2.0)])
def test_cgroup_v1_quota(tmp_path: Path, quota: str, cpus: float | None) -> None:
    (tmp_path / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu.cfs_period_us").write_text("100000")
    assert cgroup_cpus(tmp_path / "absent", tmp_path) == cpus


@pytest.mark.parametrize(
    ("machine", "flags", "saturates"),
    [
        ("x86_64", "fpu avx2 avx512f avx512_vnni", False),
        ("x86_64", "fpu avx2 avx_vnni f16c", False),
        ("x86_64", "fpu avx2 avx512f", True),
        ("aarch64", "", False),
    ],
)
def test_int8_is_computed_exactly_where_the_cpu_would_saturate(tmp_path: Path, machine: str, flags: str, saturates: bool) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t: none\n")
    assert int8_saturates(machine, tmp_path / "cpuinfo") is saturates


def test_an_unknown_x86_cpu_is_taken_to_saturate(tmp_path: Path) -> None:
    assert int8_saturates("x86_64", tmp_path / "absent")
