"""The capacity model: what it must never get wrong, whatever the coefficients."""

from dataclasses import replace
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.capacity.model import COSTS, Coefficients, Fleet, plan, read_coefficients, warnings
from core.errors import SettingsError

SHIPPED = read_coefficients(files("cli.capacity").joinpath("coefficients.toml").read_text(), name="shipped")
COST = Coefficients(
    hardware="a core",
    measured="now",
    values=dict.fromkeys(COSTS, 1.0)
    | {"detect_ms": 40.0, "jpeg_decode_ms": 3.0, "recognize_other_ms": 2.0, "embed_ms": 10.0, "reference_bytes": 4096.0},
    sources=dict.fromkeys(COSTS, ""),
)
FLEET = Fleet(
    cameras=100, references=1_000_000, fps=10, busy_share=0.5, gated_fps=4, faces_per_frame=1.0, embeds_per_face=0.5, utilisation=0.5
)


def test_a_plan_by_hand() -> None:
    result = plan(FLEET, COST)
    assert result.decoded_frames_per_s == 1000
    assert result.gated_frames_per_s == 200
    assert result.probes_per_s == 100
    assert result.ingest_cores == pytest.approx((1000 * (1 + 1) + 200 * 1) / 1000 / 0.5)
    assert result.recognize_cores == pytest.approx((200 * (40 + 3 + 2) + 100 * 10) / 1000 / 0.5)
    assert result.partitions == 13
    assert result.shards == 1
    assert result.gallery_gib_per_shard == pytest.approx(4096e6 / 2**30)


def test_a_gpu_takes_the_models_off_the_cores() -> None:
    result = plan(replace(FLEET, gpu_frames_per_s=100.0), COST)
    assert result.gpus == 4
    assert result.recognize_cores == pytest.approx(200 * 5 / 1000 / 0.5)


def test_a_gallery_beyond_one_matcher_is_split() -> None:
    result = plan(replace(FLEET, references=10_000_000, shard_gib=16), COST)
    assert result.shards == 3
    assert result.matchers == 6
    assert result.gallery_gib_per_shard <= 16


@given(cameras=st.integers(1, 10**6), references=st.integers(0, 10**8), more=st.integers(1, 1000))
def test_more_cameras_or_references_never_need_less(cameras: int, references: int, more: int) -> None:
    small = plan(replace(FLEET, cameras=cameras, references=references), SHIPPED)
    for larger in (
        replace(FLEET, cameras=cameras + more, references=references),
        replace(FLEET, cameras=cameras, references=references + more),
    ):
        big = plan(larger, SHIPPED)
        assert big.cores >= small.cores - 1e-9
        assert big.partitions >= small.partitions
        assert big.shards >= small.shards


def test_a_million_cameras_are_told_what_breaks() -> None:
    fleet = Fleet(cameras=1_000_000, references=10_000_000)
    said = " ".join(warnings(fleet, plan(fleet, SHIPPED)))
    assert "Kafka" in said
    assert "PostgreSQL" in said
    small = Fleet(cameras=20, references=3000)
    assert warnings(small, plan(small, SHIPPED)) == []


@pytest.mark.parametrize(
    ("change", "named"), [({"utilisation": 0.0}, "utilisation"), ({"fps": float("nan")}, "fps"), ({"cameras": 0}, "cameras")]
)
def test_nonsense_is_named(change: dict[str, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        plan(replace(FLEET, **change), COST)  # type: ignore[arg-type]


def test_a_bad_coefficients_file_names_every_problem() -> None:
    with pytest.raises(SettingsError, match=r"mine\.toml: .*decode_ms\.value: missing.*surprise: unknown.*hardware: missing"):
        read_coefficients("[surprise]\nvalue = 1\n[decode_ms]\nvalue = -1\n", name="mine.toml")
