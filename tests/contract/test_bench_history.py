"""The generated record is one that the API reads and finds people in."""

import numpy as np

from api.history.follow import open_history
from api.history.index import Wanted
from api.history.models import HistoryEmbedding
from cli.bench.history import history_body, store_sightings
from core.ports import Database
from tests.builders.api import services


async def test_a_generated_record_is_found_by_its_probes(db: Database) -> None:
    probes = await store_sightings(db, 300, 64, model="bench", seed=3)
    behind = services(db)
    async with open_history(db, behind.sightings, model="bench", dimensions=64, most=1000, metrics=behind.metrics) as history:
        await history.load()
        assert history.coverage().complete
        found = [await history.search(probe, Wanted(), limit=5, threshold=lambda _searched: 0.45) for probe in probes]
        assert np.mean([bool(answer.matches) for answer in found]) > 0.8
        stored = [face async for page in behind.sightings.stream_faces("bench", limit=1000) for face in page]
        for probe, answer in zip(probes, found, strict=True):
            exact = sorted((float(face.embedding @ probe) for face in stored), reverse=True)
            best = [score for score in exact if score >= 0.45][:5]
            np.testing.assert_allclose([match.score for match in answer.matches], best, atol=1e-6)


def test_bodies_are_those_of_the_api() -> None:
    for number in range(8):
        HistoryEmbedding.model_validate(history_body(np.ones(64, np.float32), "bench", number))
