"""The models that a benchmark measures: those of the settings, with a given number of threads."""

from core.adapters.ort import OrtSession, machine_threads, runtime_version
from core.models.registry import Registry
from core.settings import Settings
from detect.detector import Detector, open_detector
from embed.embedder import Embedder


def thread_counts() -> list[int]:
    """Return 1, 2, 4, ... up to the threads of this machine."""
    most = machine_threads()
    return sorted({1, most} | {2**i for i in range(1, most.bit_length()) if 2**i < most})


def load_detector(settings: Settings, *, threads: int) -> Detector:
    """Load the detector of the settings' model set. Raises ModelError, NotFoundError."""
    registry = Registry.load(settings.data_dir)
    spec = registry.model(registry.model_set(settings.models.set).detector)
    session = OrtSession(registry.path(spec), provider=settings.models.provider, threads=threads)
    return open_detector(spec, session, side_px=settings.models.detector_side_px)


def load_embedder(settings: Settings, *, threads: int) -> Embedder:
    """Load the embedder of the settings' model set. Raises ModelError, NotFoundError."""
    registry = Registry.load(settings.data_dir)
    spec = registry.model(registry.model_set(settings.models.set).embedder)
    return Embedder(spec, OrtSession(registry.path(spec), provider=settings.models.provider, threads=threads))


def describe_settings(settings: Settings) -> dict[str, object]:
    """Return what a report should say about the models."""
    return {
        "models": settings.models.set,
        "provider": settings.models.provider,
        "detector_side_px": settings.models.detector_side_px,
        "onnxruntime": runtime_version(),
    }
