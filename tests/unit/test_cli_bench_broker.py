"""The broker's benchmark, over the broker in this process: every figure is there and makes sense."""

import pytest

from cli.bench.broker import SIZES_BYTES, measure
from core.adapters.memory_broker import MemoryBroker


async def test_every_figure_is_there_and_makes_sense() -> None:
    figures = await measure(MemoryBroker(), messages=256)
    names = ("publish", "publish_cpu", "consume", "consume_cpu", "cpu", "round_trip")
    assert set(figures) == {f"{name}_{size}" for name in names for size in SIZES_BYTES}
    assert all(value > 0 for value, _ in figures.values())
    assert figures["cpu_4k"][0] == pytest.approx(figures["publish_cpu_4k"][0] + figures["consume_cpu_4k"][0])
    assert {unit for _, unit in figures.values()} == {"1/s", "us", "ms"}
