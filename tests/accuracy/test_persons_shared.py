"""Strangers who come back, on real faces: how often two sightings of one person meet, and two people are taken for one."""

from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest

from cli.compose import load_models
from core.settings import load_settings
from core.types import F32
from detect.photo import detect_photo
from embed.quality import assess
from sightings.people import Bounds, person_id_of, place
from sightings.record import SeenFace

ORL = Path(__file__).parents[3] / "shared" / "data" / "orl"
pytestmark = [
    pytest.mark.skipif(not ORL.exists(), reason=f"NOT MEASURED: the development data is absent ({ORL})"),
    pytest.mark.timeout(300),
]
PER_PERSON = 5
BORDER_PX = 90
ENLARGE = 12


def faces_of(path: Path, tmp_path: Path) -> list[SeenFace]:
    """Return five pictures of each of the twenty people as tracks of one shot; ORL pictures are enlarged and bordered as its notes say."""
    models = load_models(load_settings(data_dir=tmp_path))
    found = []
    for person in sorted(path.iterdir()):
        for number, picture in enumerate(sorted(person.iterdir())[:PER_PERSON]):
            grey = cv2.imread(str(picture), cv2.IMREAD_GRAYSCALE)
            large = cv2.resize(grey, None, fx=ENLARGE, fy=ENLARGE, interpolation=cv2.INTER_CUBIC)
            framed = cv2.copyMakeBorder(large, *[BORDER_PX] * 4, cv2.BORDER_REPLICATE)
            image = np.ascontiguousarray(np.repeat(framed[:, :, None], 3, axis=2))
            faces = detect_photo(models.detector, image)
            if not len(faces):
                continue
            chips = models.embedder.views(image, faces.landmarks[:1])
            found.append(
                SeenFace(
                    sighting_id=f"{person.name}/{number}",
                    camera="orl",
                    outcome="stranger",
                    quality=max(0.5, assess(image, faces)[0].value),  # ORL is blurred by its size alone: that is not what is tried here
                    first_s=0.0,
                    last_s=0.0,
                    revision=1,
                    model=models.embedder.model,
                    embedding=models.embedder.embed_views(chips).vectors[0],
                )
            )
    return found


def clustered(faces: list[SeenFace], bounds: Bounds) -> dict[str, str | None]:
    """Return whom each face was placed with."""
    exemplars: dict[str, list[F32]] = {}
    owner: dict[str, str | None] = {}
    for face in faces:
        placed = place(face, exemplars, bounds)
        key = placed.person_id if placed.verdict == "joined" else person_id_of(face.sighting_id) if placed.verdict == "new" else None
        owner[face.sighting_id] = key
        if key is not None and placed.exemplar:
            exemplars.setdefault(key, []).append(face.embedding)
    return owner


def test_people_are_not_mixed_and_most_meet_again(tmp_path: Path) -> None:
    faces = faces_of(ORL, tmp_path)
    assert len(faces) >= 95
    models = load_models(load_settings(data_dir=tmp_path))
    bounds = Bounds.of(models.calibration, far=1e-3, persons=20)
    right = wrong = together = 0
    for seed in range(10):
        order = np.random.default_rng(seed).permutation(len(faces))
        owner = clustered([faces[place_] for place_ in order], bounds)
        for one, other in combinations(sorted(owner), 2):
            same_person = one.split("/")[0] == other.split("/")[0]
            joined = owner[one] is not None and owner[one] == owner[other]
            together += same_person
            right += same_person and joined
            wrong += joined and not same_person
    print(f"pair precision {right / (right + wrong):.4f}, recall {right / together:.3f}, {wrong} wrong pairs, bounds {bounds}")  # noqa: T201
    assert right / (right + wrong) >= 0.98
    assert right / together >= 0.5
