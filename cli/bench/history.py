"""A record of a million generated sightings in the database, and how long a search of it takes."""

import base64
import math
import random
from typing import Any

import aiohttp
import numpy as np

from cli.bench.load import Load, closed_loop
from cli.bench.people import generate_people
from core.ports import Database
from core.types import F32
from core.vault import label_of
from matcher.ids import id_texts

PIECE = 12_288  # sightings made at a time, of people of their own: 25 MB of 512 floats
CAMERAS = 50
OUTCOMES = ("stranger", "stranger", "subject")
DAYS = 30  # that the record spans: the default of sightings.retention_days
FIRST_S = 1_780_000_000.0
HITS = 100
FPIR = 0.01

_INSERT = """
insert into sighting (sighting_id, track_id, camera, region, revision, closed, outcome, reason, collection, subject_id, subject, threshold,
                      model, quality, faces, first_at, last_at, best_at, best_box, path, times, embedding, stored_at, person_checked)
select id, 'bench/' || id, camera, 'default', 1, true, outcome, '', 'default', case when outcome = 'subject' then id end,
       case when outcome = 'subject' then 'bench' end, 0.5, $2, 0.8, 4, to_timestamp(first_s), to_timestamp(first_s + 5),
       to_timestamp(first_s), array[0, 0, 1, 1]::float8[], '[]', $3::text::jsonb, embedding, now(), true
from unnest($1::uuid[], $4::text[], $5::text[], $6::float8[], $7::bytea[]) as given (id, camera, outcome, first_s, embedding)
"""
_TIMES = '{"captured_s":0,"published_s":0,"detected_s":0,"embedded_s":0,"matched_s":0,"decided_s":0}'


async def store_sightings(db: Database, count: int, dimensions: int, *, model: str, seed: int) -> F32:
    """Store so many sightings, of people who were seen three times on average; return probes of some of them."""
    probes: list[F32] = []
    for number, first in enumerate(range(0, count, PIECE)):
        rng = np.random.default_rng([seed, number])
        size = min(PIECE, count - first)
        people = generate_people(references=size, dimensions=dimensions, probes=16, rng=rng)
        ids = id_texts(rng.integers(0, 2**64, (size, 2), dtype=np.uint64))
        places = np.arange(first, first + size)
        await db.execute(
            _INSERT,
            ids,
            model,
            _TIMES,
            [f"camera-{place % CAMERAS}" for place in places],
            [OUTCOMES[place % len(OUTCOMES)] for place in places],
            (FIRST_S + places * (DAYS * 86400.0 / count)).tolist(),
            [
                db.vault.seal(vector.astype("<f4").tobytes(), label=label_of("sighting embedding", key))
                for vector, key in zip(people.references, ids, strict=True)
            ],
        )
        probes.append(people.probes)
    await db.execute("analyze sighting")
    return np.concatenate(probes)


def history_body(vector: F32, model: str, number: int) -> dict[str, Any]:
    """Return the body of a search: of everything, of some cameras, of some days, of strangers at some cameras on some days, in turns."""
    rng = random.Random(number)
    body: dict[str, Any] = {
        "embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode(),
        "model": model,
        "limit": HITS,
        "fpir": FPIR,
    }
    if number % 4 in (1, 3):
        body["cameras"] = [f"camera-{camera}" for camera in rng.sample(range(CAMERAS), 5)]
    if number % 4 in (2, 3):
        begin = FIRST_S + rng.random() * (DAYS - 3) * 86400
        body |= {"since": _time(begin), "until": _time(begin + 3 * 86400)}
    if number % 4 == 3:
        body["outcomes"] = ["stranger"]
    return body


async def measure_history(http: aiohttp.ClientSession, probes: F32, *, model: str, clients: int, seconds: float) -> Load:
    """Search the past with filters in closed loops. Raises AssertionError where an answer is not whole."""
    order = np.random.default_rng(1).permutation(len(probes))

    async def send(number: int) -> None:
        body = history_body(probes[order[number % len(order)]], model, number)
        async with http.post("/v1/history/search/embedding", json=body) as response:
            answer = await response.json()
        if response.status != 200 or not answer["complete"]:
            raise AssertionError(f"history: {response.status}: {str(answer)[:300]}")

    return await closed_loop(send, clients=clients, seconds=seconds)


def _time(seconds: float) -> str:
    import datetime

    return datetime.datetime.fromtimestamp(math.floor(seconds), datetime.UTC).isoformat()
