"""What the platform must know about a model to run it and to trust it. Read from ``registry.toml``."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Task = Literal["detector", "embedder", "liveness"]
ProbeKind = Literal["single", "track"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InputSpec(_Frozen):
    """How pixels become the model's input tensor: ``(pixel - mean) * scale``, NCHW float32."""

    tensor: str
    height_px: int | None = None
    """None = dynamic, a multiple of 32."""
    width_px: int | None = None
    colour: Literal["rgb", "bgr"]
    mean: float
    scale: float
    batch: bool = True
    """False when the graph's first axis is fixed to 1."""


class CalibrationPoint(_Frozen):
    """Score at which one comparison of two different people is a false match with this probability."""

    far: Annotated[float, Field(gt=0, lt=1)]
    score: Annotated[float, Field(ge=-1, le=1)]
    measured: bool
    """False where the tail was extrapolated."""


class CalibrationSpec(_Frozen):
    """Calibration of one embedder for one kind of probe."""

    kind: ProbeKind
    points: tuple[CalibrationPoint, ...]
    """Descending FAR, 1e-1 .. 1e-5."""
    source: str
    """What it was measured on."""
    comparisons: int


class ModelSpec(_Frozen):
    """One model."""

    name: str
    task: Task
    architecture: Literal["centerface", "yunet", "scrfd", "embedder", "liveness"]
    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*\.onnx$")]
    """File name in the package's weights folder, or in the model folder of the data directory."""
    sha256: str
    shipped: bool
    url: str | None = None
    """Where `sightline models pull` gets the file; None = it is built from registry packages, or came with a pack."""
    licence: str
    commercial_use: bool
    provenance: str
    training_data: str
    input: InputSpec
    template: Literal["arcface112", "arcface112_loose", "dlib150"] | None = None
    """Alignment template of an embedder."""
    dimensions: int | None = None
    """Embedding length."""
    score_threshold: float | None = None
    """Default detector threshold."""
    norm_predicts_quality: bool = False
    """The norm before normalisation says how good the face was (fr_feature)."""
    calibration: tuple[CalibrationSpec, ...] = ()


class ModelSet(_Frozen):
    """A detector and an embedder that go together, by name."""

    name: str
    detector: str
    embedder: str
    note: str


class PackSpec(_Frozen):
    """A zip of models made elsewhere (InsightFace), fetched by name; what is inside is recognised by its inputs and outputs."""

    name: str
    url: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """Of the zip as published."""
    size_bytes: int
    licence: str
    commercial_use: bool
    provenance: str
    training_data: str
