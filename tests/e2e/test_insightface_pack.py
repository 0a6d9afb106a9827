"""A pack in InsightFace's layout, from the zip a user drops in to embeddings, on generated graphs of the real shapes."""

from pathlib import Path

import numpy as np
import pytest

from core.adapters.ort import OrtSession
from core.errors import ModelError
from core.models.registry import Registry
from core.models.store import ModelStore
from detect.detector import open_detector
from embed.calibration import Calibration
from embed.embedder import Embedder
from tests.builders.onnx_models import buffalo


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    store = ModelStore(Registry.load(tmp_path))
    source = str(buffalo(tmp_path / "pack.zip"))
    store.pull(store.wanted("mine", source), source, lambda done, total: None)
    return Registry.load(tmp_path)


def test_scrfd_and_arcface_run_through_the_same_ports_as_the_shipped_models(registry: Registry) -> None:
    chosen = registry.model_set("mine")
    detector_spec, embedder_spec = registry.model(chosen.detector), registry.model(chosen.embedder)
    detector = open_detector(detector_spec, OrtSession(registry.path(detector_spec), provider="cpu", threads=1), side_px=320)
    embedder = Embedder(embedder_spec, OrtSession(registry.path(embedder_spec), provider="cpu", threads=1))

    image = np.zeros((240, 320, 3), np.uint8)
    image[64:192, 96:224] = 255  # the generated graph scores bright cells above .5
    faces = detector.detect([image])[0]
    assert len(faces)
    centres = (faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2
    assert ((centres > (64, 32)) & (centres < (256, 224))).all()

    embeddings = embedder.embed(embedder.chips(image, faces.landmarks))
    assert embeddings.vectors.shape == (len(faces), 512)
    assert np.linalg.norm(embeddings.vectors, axis=1) == pytest.approx(1.0, abs=1e-5)


def test_its_scores_mean_nothing_until_it_is_calibrated(registry: Registry) -> None:
    with pytest.raises(ModelError, match=r"has no calibration for single and track probes"):
        Calibration.of(registry.model(registry.model_set("mine").embedder))
