"""``sightline replay``: publish frames of a time range again, so that recognizers look at them anew."""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from rich.table import Table

from cli.fleet_log import frames_topics, require_kafka
from cli.output import JSON_OPTION, console, emit, run_async
from cli.times import HELP, parse_time
from core.accounting import Numbers, frame_number, is_replay
from core.errors import MessageError, UsageError
from core.ports import Record
from core.schema import DeadLetter, FrameHeader, decode
from core.settings import Settings
from core.topology import DEAD_PREFIX, FRAMES_PREFIX, REASON_HEADER, REPLAY_HEADER

CLOCK_SLACK_S = 60.0  # a camera's machine may be ahead of Kafka's by so much
WINDOW = 64  # records on their way at a time

app = typer.Typer()


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which records are published again."""

    from_s: float
    to_s: float
    cameras: frozenset[str]
    """Empty = all."""
    seen: dict[tuple[str, str], Numbers] = field(default_factory=dict)

    def pick(self, record: Record, sent_s: float) -> tuple[str, bytes] | None:
        """Return topic and value to publish, or None: out of range, another camera, a replay itself, or a copy.

        The time that counts is that of capture, of dead letters and of other topics that of sending.
        """
        if is_replay(record) or (self.cameras and record.key not in self.cameras):
            return None
        topic, value, when_s = record.topic, record.value, sent_s
        try:
            if record.topic.startswith(DEAD_PREFIX):
                letter, payload = decode(DeadLetter, record.value)
                topic, value = letter.topic, bytes(payload)
            elif record.topic.startswith(FRAMES_PREFIX):
                when_s = decode(FrameHeader, record.value)[0].captured_s
        except MessageError:
            return None  # a frame that nobody can read: its dead letter is what --dead is for
        if not self.from_s <= when_s < self.to_s or self._copy(record):
            return None
        return topic, value

    def _copy(self, record: Record) -> bool:
        number = frame_number(record) if record.topic.startswith(FRAMES_PREFIX) else None
        return number is not None and not self.seen.setdefault(number[0], Numbers()).add(number[1])


@app.command()
def replay(
    ctx: typer.Context,
    from_: Annotated[str, typer.Option("--from", help=f"From this time of capture, {HELP}.")],
    to: Annotated[str, typer.Option(help="To this time.")] = "now",
    camera: Annotated[list[str] | None, typer.Option(help="Only these cameras (may be given several times).")] = None,
    region: Annotated[list[str] | None, typer.Option(help="Only these regions (may be given several times).")] = None,
    dead: Annotated[bool, typer.Option("--dead", help="Dead letters instead, back to the topic they came from.")] = False,
    topic: Annotated[str | None, typer.Option(help="Records of this topic instead of frames, e.g. sightings.")] = None,
    rate: Annotated[float, typer.Option(min=0, help="At most so many a second; 0 = as fast as Kafka takes them.")] = 50.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, publish nothing.")] = False,
    as_json: bool = JSON_OPTION,
) -> None:
    """Publish frames of a time range again: after a change of models or thresholds, or after what made them dead letters was mended.

    Ids are the same as the first time, and each record is marked, so the account of frames stays as it was.
    """
    settings: Settings = ctx.obj.settings()
    now_s = time.time()
    choice = Choice(
        from_s=parse_time(from_, now_s=now_s, option="--from"),
        to_s=parse_time(to, now_s=now_s, option="--to"),
        cameras=frozenset(camera or ()),
    )
    if choice.from_s >= choice.to_s:
        raise UsageError("--from must be before --to")
    if topic is not None and region:
        raise UsageError("--topic and --region exclude each other")
    require_kafka(settings)
    from core.adapters.kafka_scan import KafkaReader

    reader = KafkaReader(settings.log_url, settings.kafka)
    sources = _sources(reader.admin, topic, region, dead=dead)
    batches = _batches(reader, sources, choice)
    run = f"replay-{uuid.uuid4().hex[:8]}"
    counts: Counter[tuple[str, str]] = Counter()
    try:
        run_async(_replay(settings, batches, None if dry_run else _Pace(rate), run, counts))
    finally:
        _tell(counts, run, dry_run=dry_run, as_json=as_json)


def _sources(admin: Any, topic: str | None, regions: list[str] | None, *, dead: bool) -> list[str]:
    """Return the topics to read."""
    names = [topic] if topic is not None else frames_topics(admin, regions)
    if dead:
        names = [name if name.startswith(DEAD_PREFIX) else DEAD_PREFIX + name for name in names]
    there = admin.partitions()
    if absent := [name for name in names if name not in there]:
        raise UsageError(f"there is no topic {', '.join(absent)}; 'sightline topics list' shows those that are there")
    return names


Chosen = tuple[Record, str, bytes]


def _batches(reader: Any, topics: list[str], choice: Choice) -> Iterator[list[Chosen]]:
    """Yield what is to be published, each partition in order.

    Records are read to what is the end now: a spool may have brought frames much later than they were captured.
    """
    for batch in reader.read(reader.since(topics, choice.from_s - CLOCK_SLACK_S)):
        yield [(kept.record, *picked) for kept in batch if (picked := choice.pick(kept.record, kept.sent_s))]


class _Pace:
    """At most so many a second."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._next_s = clock()

    async def wait(self, records: int) -> None:
        """Return when so many more may go."""
        if self._rate:
            now_s = self._clock()
            self._next_s = max(now_s, self._next_s) + records / self._rate
            await asyncio.sleep(self._next_s - now_s)


async def _replay(
    settings: Settings, batches: Iterator[list[Chosen]], pace: _Pace | None, run: str, counts: Counter[tuple[str, str]]
) -> None:
    """Publish batches in order; without a pace only count."""
    from core.adapters.kafka_log import open_kafka_log

    async with open_kafka_log(settings.log_url, settings.kafka) as log:
        while (batch := await asyncio.to_thread(next, batches, None)) is not None:
            for start in range(0, len(batch), WINDOW):
                window = batch[start : start + WINDOW]
                if pace is not None:
                    await pace.wait(len(window))
                    await asyncio.gather(*(log.publish(t, r.key, v, headers=_marked(r, run)) for r, t, v in window))
                counts.update((topic, record.key) for record, topic, _ in window)


def _marked(record: Record, run: str) -> tuple[tuple[str, bytes], ...]:
    return (*(header for header in record.headers if header[0] != REASON_HEADER), (REPLAY_HEADER, run.encode()))


def _tell(counts: Counter[tuple[str, str]], run: str, *, dry_run: bool, as_json: bool) -> None:
    total = sum(counts.values())
    if as_json:
        for (topic, key), records in sorted(counts.items()):
            emit({"topic": topic, "camera": key, "records": records})
        emit({"total": total, "run": None if dry_run else run, "dry_run": dry_run})
        return
    table = Table("topic", "camera", "records")
    table.columns[2].justify = "right"
    for (topic, key), records in sorted(counts.items()):
        table.add_row(topic, key, f"{records:,}")
    if total:
        console().print(table)
    console().print(f"{total:,} records " + ("would be published again" if dry_run else f"published again, marked {run}"))
