"""How much of everything a fleet needs: a linear model over measured costs. Pure.

Every figure is (work per second) x (cost of one piece of work) / (share of a machine that may be busy). What does not add up linearly is
rounded up to whole partitions, shards and processes. Queueing is what the share leaves room for: at 60 % busy the 95th percentile of a
stage stays below three times its service time.
"""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields

from core.adapters.kafka_plan import CAMERAS_PER_PARTITION
from core.errors import SettingsError

FULL_HD_PIXELS = 1920 * 1080
SECONDS_A_DAY = 86_400
MAX_PARTITIONS_PER_CLUSTER = 200_000
"""Of one Kafka cluster in KRaft mode; its documentation speaks of millions, operators of comfort below this."""
GIB = float(1 << 30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """What is asked of the fleet."""

    cameras: int
    references: int
    """In the gallery; about three a person."""
    fps: float = 15.0
    """Decoded frames per second of a camera."""
    megapixels: float = FULL_HD_PIXELS / 1e6
    busy_share: float = 0.25
    """Share of a camera's day in which something moves."""
    gated_fps: float = 5.0
    """Frames per second that the gate lets through while something moves."""
    faces_per_frame: float = 0.5
    """Mean over gated frames."""
    embeds_per_face: float = 0.2
    """Share of seen faces that are embedded and looked up: a track's best shots only."""
    visits_per_camera_hour: float = 60.0
    """Tracks told, each stored about revisions_per_visit times."""
    revisions_per_visit: float = 4.0
    retention_days: float = 30.0
    replicas: int = 2
    shard_gib: float = 16.0
    """Memory that one matcher may use."""
    utilisation: float = 0.6
    """Share of a core's time that is planned; the rest is for peaks and a lost machine."""
    gpu_frames_per_s: float | None = None
    """What one GPU of yours detects and embeds, as measured by ``sightline bench detect``; None = recognition on CPUs."""


COSTS = (
    "decode_ms",
    "gate_ms",
    "jpeg_encode_ms",
    "jpeg_bytes",
    "jpeg_decode_ms",
    "detect_ms",
    "embed_ms",
    "recognize_other_ms",
    "probe_fixed_us",
    "probe_us_per_1000",
    "reference_bytes",
    "probe_bytes",
    "sighting_ms",
    "sighting_bytes",
    "worker_gib",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficients:
    """Measured costs, and where they were measured. Names as in coefficients.toml."""

    hardware: str
    measured: str
    values: Mapping[str, float]
    sources: Mapping[str, str]

    def __getitem__(self, name: str) -> float:
        """Return a cost."""
        return self.values[name]


def read_coefficients(text: str, *, name: str) -> Coefficients:
    """Read a coefficients file.

    Raises:
        SettingsError: what is missing or no positive number, all of it at once.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as err:
        raise SettingsError(f"{name}: {err}") from err
    tables = {key: table for key, table in data.items() if isinstance(table, dict)}
    problems = [f"{key}.value: missing, or not a positive number" for key in COSTS if not _positive(tables.get(key, {}).get("value"))]
    problems += [f"{key}: unknown" for key in tables if key not in COSTS]
    problems += [f"{key}: missing" for key in ("hardware", "measured") if not isinstance(data.get(key), str)]
    if problems:
        raise SettingsError(f"{name}: " + "; ".join(problems))
    return Coefficients(
        hardware=data["hardware"],
        measured=data["measured"],
        values={key: float(tables[key]["value"]) for key in COSTS},
        sources={key: str(tables[key].get("source", "")) for key in COSTS},
    )


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the fleet needs. Cores are those of the machine on which the coefficients were measured."""

    decoded_frames_per_s: float
    gated_frames_per_s: float
    faces_per_s: float
    probes_per_s: float
    ingest_cores: float
    recognize_cores: float
    """With GPUs: JPEG decoding and tracking only."""
    gpus: int
    match_cores: float
    sightings_cores: float
    partitions: int
    """Of the frames topics, by the rule of ``sightline topics ensure``, before it rounds up for each region."""
    shards: int
    matchers: int
    """Shards times replicas."""
    gallery_gib_per_shard: float
    recognize_gib: float
    camera_gbit_per_s: float
    """From cameras to ingesters, at 4 Mbit/s for 1080p15."""
    kafka_gbit_per_s: float
    """Into Kafka; as much leaves it, and replication 3 doubles what flows between its servers."""
    broker_mbit_per_s: float
    """Probes to every shard, and answers."""
    sightings_per_s: float
    database_gib: float
    """After the whole retention."""

    @property
    def cores(self) -> float:
        """All cores, servers apart."""
        return self.ingest_cores + self.recognize_cores + self.match_cores + self.sightings_cores


CAMERA_BITS_PER_PIXEL = 4e6 / (FULL_HD_PIXELS * 15)
"""H.264 of a quiet indoor camera."""


def plan(fleet: Fleet, cost: Coefficients) -> Plan:
    """Work out what a fleet needs.

    Raises:
        ValueError: a number of the fleet that makes no sense; says which.
    """
    _check(fleet)
    size = fleet.megapixels * 1e6 / FULL_HD_PIXELS
    decoded = fleet.cameras * fleet.fps
    gated = fleet.cameras * fleet.busy_share * min(fleet.gated_fps, fleet.fps)
    faces = gated * fleet.faces_per_frame
    probes = faces * fleet.embeds_per_face
    sightings = fleet.cameras * fleet.visits_per_camera_hour * fleet.revisions_per_visit / 3600
    shards = max(1, math.ceil(fleet.references * cost["reference_bytes"] / (fleet.shard_gib * GIB)))
    probe_s = shards * cost["probe_fixed_us"] / 1e6 + fleet.references / 1000 * cost["probe_us_per_1000"] / 1e6
    models_ms = gated * cost["detect_ms"] + probes * cost["embed_ms"]
    on_cpu = fleet.gpu_frames_per_s is None
    other_ms = gated * (cost["jpeg_decode_ms"] * size + cost["recognize_other_ms"])
    recognize_cores = (other_ms + (models_ms if on_cpu else 0.0)) / 1000 / fleet.utilisation
    return Plan(
        decoded_frames_per_s=decoded,
        gated_frames_per_s=gated,
        faces_per_s=faces,
        probes_per_s=probes,
        ingest_cores=(decoded * (cost["decode_ms"] * size + cost["gate_ms"]) + gated * cost["jpeg_encode_ms"] * size)
        / 1000
        / fleet.utilisation,
        recognize_cores=recognize_cores,
        gpus=0 if fleet.gpu_frames_per_s is None else math.ceil(gated / (fleet.gpu_frames_per_s * fleet.utilisation)),
        match_cores=max(probes * probe_s / fleet.utilisation, float(shards * fleet.replicas) * 0.05),
        sightings_cores=sightings * cost["sighting_ms"] / 1000 / fleet.utilisation,
        partitions=math.ceil(fleet.cameras / CAMERAS_PER_PARTITION),
        shards=shards,
        matchers=shards * fleet.replicas,
        gallery_gib_per_shard=fleet.references / shards * cost["reference_bytes"] / GIB,
        recognize_gib=math.ceil(recognize_cores) * cost["worker_gib"],
        camera_gbit_per_s=decoded * fleet.megapixels * 1e6 * CAMERA_BITS_PER_PIXEL / 1e9,
        kafka_gbit_per_s=gated * cost["jpeg_bytes"] * size * 8 / 1e9,
        broker_mbit_per_s=probes * cost["probe_bytes"] * 8 * (shards + 1) / 1e6,
        sightings_per_s=sightings,
        database_gib=sightings / fleet.revisions_per_visit * SECONDS_A_DAY * fleet.retention_days * cost["sighting_bytes"] / GIB,
    )


def _check(fleet: Fleet) -> None:
    for item in fields(fleet):
        value = getattr(fleet, item.name)
        if value is not None and (not math.isfinite(value) or value < 0):
            raise ValueError(f"{item.name}: {value} is no amount")
    for name in ("cameras", "fps", "megapixels", "replicas", "shard_gib", "revisions_per_visit"):
        if getattr(fleet, name) <= 0:
            raise ValueError(f"{name}: must be more than 0")
    if not 0 < fleet.utilisation <= 1 or fleet.busy_share > 1:
        raise ValueError("utilisation and busy_share: must lie in 0..1, utilisation above 0")
    if fleet.gpu_frames_per_s is not None and fleet.gpu_frames_per_s <= 0:
        raise ValueError("gpu_frames_per_s: must be more than 0")


def warnings(fleet: Fleet, result: Plan) -> list[str]:
    """Say what breaks first at this size, in whole sentences; empty for a fleet that one of everything carries."""
    broker_gbit_per_s = result.broker_mbit_per_s / 1000
    table = (
        (
            result.partitions > MAX_PARTITIONS_PER_CLUSTER,
            f"{result.partitions:,} partitions: more than one Kafka cluster carries; one per region.",
        ),
        (result.kafka_gbit_per_s > 20, f"{result.kafka_gbit_per_s:,.0f} Gbit/s of frames into Kafka: keep frames in their region."),
        (broker_gbit_per_s > 2, f"{broker_gbit_per_s:,.1f} Gbit/s of probes on RabbitMQ: a broker and a set of matchers per region."),
        (
            result.sightings_per_s > 2000,
            f"{result.sightings_per_s:,.0f} sightings/s: more than one PostgreSQL stores; one per region, or Cassandra.",
        ),
        (result.database_gib > 4096, f"{result.database_gib / 1024:,.1f} TiB of sightings: shorter retention, or a record cut by day."),
        (fleet.references > 20_000_000, "Each probe meets every reference: beyond some ten million the matchers outweigh the recognizers."),
    )
    return [sentence for true, sentence in table if true]
