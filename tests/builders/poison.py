"""Messages that nobody can read, put where the fleet reads: they must be put aside, counted, and block nothing."""

import asyncio
import time

from core.adapters.amqp import open_amqp
from core.adapters.kafka_log import open_kafka_log
from core.schema import FrameHeader, encode
from core.settings import BrokerSettings, KafkaSettings
from core.topology import PROBES_EXCHANGE, frames_topic

CAMERA = "poisoned"


def poison_frames(log_url: str, region: str) -> None:
    """Publish a record whose header is no header, and one whose picture is no picture."""
    header = FrameHeader(
        frame_id=f"{CAMERA}/s1/0",
        camera=CAMERA,
        region=region,
        captured_s=time.time(),
        published_s=time.time(),
        width_px=480,
        height_px=270,
        reason="motion",
    )

    async def publish() -> None:
        async with open_kafka_log(log_url, KafkaSettings()) as log:
            await log.publish(frames_topic(region), CAMERA, b"\x07\x00\x00\x00not msgpack at all")
            await log.publish(frames_topic(region), CAMERA, encode(header, b"\xff\xd8 no JPEG"))

    asyncio.run(publish())


def poison_probes(broker_url: str) -> None:
    """Publish a batch of probes that is none, to every shard."""

    async def publish() -> None:
        async with open_amqp(broker_url, BrokerSettings(), name="poison") as broker:
            await broker.publish(PROBES_EXCHANGE, "", b"\x07\x00\x00\x00not msgpack at all", correlation_id="poison")

    asyncio.run(publish())
