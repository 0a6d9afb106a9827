"""``sightline topics``, ``replay`` and ``audit`` on a real Kafka, through the command line."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app
from core.schema import FrameHeader, encode
from core.topology import RECOGNIZE_GROUP, frames_topic
from tests.builders.kafka import TestKafka, collect, open_test_kafka

Run = Callable[..., Any]


@pytest.fixture
async def kafka(kafka_url: str) -> AsyncIterator[TestKafka]:
    async with open_test_kafka(kafka_url) as kafka:
        yield kafka


@pytest.fixture
def run(kafka_url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in a thread; return its exit code and JSON lines."""
    monkeypatch.setenv("SIGHTLINE_LOG_URL", kafka_url)

    async def invoke(*args: str) -> tuple[int, list[dict[str, Any]], str]:
        result = await asyncio.to_thread(CliRunner().invoke, app, [*args, "--json"])
        lines = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
        return result.exit_code, lines, str(result.exception or "")

    return invoke


async def publish(kafka: TestKafka, region: str, seqs: list[int], *, camera: str = "gate", captured_s: float | None = None) -> None:
    for seq in seqs:
        header = FrameHeader(
            frame_id=f"{camera}/s1/{seq}",
            camera=camera,
            region=region,
            captured_s=captured_s or time.time(),
            published_s=time.time(),
            width_px=4,
            height_px=4,
            reason="motion",
        )
        await kafka.log.publish(frames_topic(region), camera, encode(header, b"jpeg"))


async def ensure(run: Run, region: str, *more: str) -> list[dict[str, Any]]:
    code, lines, error = await run("topics", "ensure", "--region", region, *more)
    assert code == 0, error
    return [line for line in lines if region in line["topic"]]


async def test_topics_are_made_once_sized_for_the_fleet_and_grown_on_demand(kafka: TestKafka, run: Run) -> None:
    region = kafka.prefix
    assert [(one["topic"], one["partitions"], one["action"]) for one in await ensure(run, region, "--cameras", "100")] == [
        (f"frames.{region}", 24, "created"),
        (f"dead.frames.{region}", 3, "created"),
    ]
    assert {one["action"] for one in await ensure(run, region, "--cameras", "100")} == {"kept"}
    (frames, _) = await ensure(run, region, "--cameras", "200", "--frames-hours", "1")
    assert (frames["partitions"], frames["wanted"], frames["action"]) == (24, 36, "changed")
    _, grown, _ = await run("topics", "grow", "--region", region, "--cameras", "200")
    assert {"topic": f"frames.{region}", "before": 24, "partitions": 36} in grown
    _, listed, _ = await run("topics", "list")
    assert {one["topic"]: one["partitions"] for one in listed}[f"frames.{region}"] == 36
    code, _, error = await run("topics", "grow", "--topic", f"frames.{region}", "--partitions", "5")
    assert code == 1
    assert "can't shrink" in error


async def test_the_account_balances_from_publishing_to_the_last_commit(kafka: TestKafka, run: Run) -> None:
    region = kafka.prefix
    await ensure(run, region)
    await publish(kafka, region, list(range(20)))
    await publish(kafka, region, [0, 1, 1, 2], camera="yard")
    await kafka.log.publish(frames_topic(region), "gate", b"poison")
    code, lines, _ = await run("audit", "frames", "--region", region)
    cameras = {line["camera"]: line for line in lines if "camera" in line}
    assert code == 0
    assert (cameras["gate"]["published"], cameras["gate"]["in_flight"], cameras["gate"]["unreadable"]) == (21, 21, 1)
    assert (cameras["yard"]["published"], cameras["yard"]["duplicates"], cameras["yard"]["lost"]) == (4, 1, 0)
    async with kafka.log.consumer([frames_topic(region)], RECOGNIZE_GROUP) as consumer:
        records = await collect(consumer, 25)
        for record in records:
            if record.value == b"poison":
                await consumer.dead_letter(record, "FrameHeader: 6 bytes")
        await consumer.commit(records[:-2])
    code, lines, _ = await run("audit", "frames", "--region", region)
    total = lines[-1]["total"]
    assert code == 0
    assert (total["published"], total["dead_lettered"], total["balance"]) == (25, 1, 0)
    assert total["finished"] + total["in_flight"] == 24
    assert total["in_flight"] in (1, 2)  # the last two, or the poison among them


async def test_an_audit_waits_for_what_was_published_when_it_began_and_counts_no_more(kafka: TestKafka, run: Run) -> None:
    region = kafka.prefix
    await ensure(run, region)
    await publish(kafka, region, list(range(5)))
    auditing = asyncio.ensure_future(run("audit", "frames", "--region", region, "--wait", "30"))
    async with kafka.log.consumer([frames_topic(region)], RECOGNIZE_GROUP) as consumer:
        records = await collect(consumer, 5)
        await asyncio.sleep(1.5)  # the audit has begun
        assert not auditing.done()
        await publish(kafka, region, [5, 6])  # a camera never rests
        await consumer.commit(records)
        code, lines, _ = await auditing
    total = lines[-1]["total"]
    assert (code, total["published"], total["finished"], total["in_flight"]) == (0, 5, 5, 0)


async def test_a_hole_is_a_lost_frame_and_an_error(kafka: TestKafka, run: Run) -> None:
    region = kafka.prefix
    await ensure(run, region)
    await publish(kafka, region, [0, 1, 2, 5, 6])
    code, lines, error = await run("audit", "frames", "--region", region)
    assert (code, error) == (1, "1")
    assert (lines[0]["lost"], lines[0]["missing"]) == (2, ["s1/3-4"])


async def test_a_hole_just_before_the_window_is_seen_and_a_session_in_its_midst_is_no_hole(kafka: TestKafka, run: Run) -> None:
    region = kafka.prefix
    await ensure(run, region)
    await publish(kafka, region, list(range(300)))
    await publish(kafka, region, [0, 1, 2], camera="yard")
    await asyncio.sleep(1.1)
    since_s = time.time()
    await publish(kafka, region, [300, 301])
    await publish(kafka, region, [4, 5], camera="yard")
    await publish(kafka, region, [3], camera="door")
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(since_s))
    _, lines, _ = await run("audit", "frames", "--region", region, "--since", since)
    lost = {line["camera"]: (line["published"], line["lost"]) for line in lines if "camera" in line}
    assert lost["gate"][1] == 0
    assert lost["yard"][1] == 1
    assert lost["door"] == (1, 3)  # nothing expired, so 0 to 2 never came


async def test_frames_of_a_time_range_come_again_marked_and_outside_the_account(kafka: TestKafka, run: Run) -> None:
    region, then_s = kafka.prefix, time.time()
    await ensure(run, region)
    await publish(kafka, region, [0, 1, 2], captured_s=then_s - 50)
    await publish(kafka, region, [3, 4, 4], captured_s=then_s - 20)
    await publish(kafka, region, [0, 1], camera="yard", captured_s=then_s - 20)
    choose = ("replay", "--from", "-35s", "--region", region, "--camera", "gate")
    _, lines, _ = await run(*choose, "--dry-run")
    assert lines == [
        {"topic": f"frames.{region}", "camera": "gate", "records": 2},  # the copy of 4 is left out
        {"total": 2, "run": None, "dry_run": True},
    ]
    for _ in range(2):  # a replay is not replayed
        _, lines, _ = await run(*choose, "--rate", "1000")
        assert lines[-1]["total"] == 2
    async with kafka.log.consumer([frames_topic(region)], RECOGNIZE_GROUP) as consumer:
        records = await collect(consumer, 12)
        await consumer.commit(records)
    again = [record for record in records if record.headers]
    assert [record.key for record in again] == ["gate"] * 4
    assert len({record.partition for record in records if record.key == "gate"}) == 1
    code, lines, _ = await run("audit", "frames", "--region", region, "--wait", "10")
    total = lines[-1]["total"]
    assert (code, total["published"], total["finished"], total["replayed"], total["balance"]) == (0, 8, 8, 4, 0)


async def test_dead_letters_go_back_to_where_they_came_from(kafka: TestKafka, run: Run) -> None:
    region = kafka.prefix
    await ensure(run, region)
    await publish(kafka, region, [0])
    async with kafka.log.consumer([frames_topic(region)], RECOGNIZE_GROUP) as consumer:
        (record,) = await collect(consumer, 1)
        await consumer.dead_letter(record, "no model")
        _, lines, _ = await run("replay", "--dead", "--from", "-5m", "--region", region)
        assert lines[0] == {"topic": f"frames.{region}", "camera": "gate", "records": 1}
        (again,) = await collect(consumer, 1)
        assert again.value == record.value
        assert [name for name, _ in again.headers] == ["replay"]
        await consumer.commit([again])
    code, lines, _ = await run("audit", "frames", "--region", region)
    total = lines[-1]["total"]
    assert (code, total["published"], total["dead_lettered"], total["replayed"], total["balance"]) == (0, 1, 1, 1, 0)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("replay", "--from", "-5m", "--to", "-6m"), "--from must be before --to"),
        (("replay", "--from", "-5m", "--topic", "absent"), "there is no topic absent"),
        (("audit", "frames", "--region", "absent"), "there is no topic frames.absent"),
        (("topics", "ensure", "--region", "no/slash"), "letters, digits"),
        (("topics", "grow", "--topic", "x"), "--topic needs --partitions"),
        (("topics", "grow", "--topic", "absent.x", "--partitions", "3"), "topic absent.x does not exist"),
    ],
)
async def test_mistakes_are_told_in_one_line(run: Run, args: tuple[str, ...], message: str) -> None:
    code, _, error = await run(*args)
    assert code == 1
    assert message in error


def test_without_kafka_the_commands_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIGHTLINE_LOG_URL", raising=False)
    for args in (["topics", "list"], ["audit", "frames"], ["replay", "--from", "-1m"]):
        assert "SIGHTLINE_LOG_URL=kafka://host:port" in str(CliRunner().invoke(app, args).exception)


def test_absent_brokers_are_an_error_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_LOG_URL", "kafka://127.0.0.1:1")
    error = str(CliRunner().invoke(app, ["topics", "list"]).exception)
    assert "Kafka at 127.0.0.1:1 does not answer" in error
    assert "\n" not in error
