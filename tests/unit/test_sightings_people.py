"""Whose is a stranger's face?"""

import uuid

import numpy as np
import pytest

from core.types import F32
from sightings.people import AGREEING_SHARE, MOST_EXEMPLARS, Bounds, Placed, person_id_of, place
from sightings.record import SeenFace
from tests.builders.api import calibration

BOUNDS = Bounds(join=0.6, agree=0.4)


def face(*values: float, quality: float = 0.8) -> SeenFace:
    return SeenFace(
        sighting_id=str(uuid.UUID(int=1)),
        camera="door",
        outcome="stranger",
        quality=quality,
        first_s=0.0,
        last_s=1.0,
        revision=1,
        model="paper",
        embedding=vector(*values),
    )


def vector(*values: float) -> F32:
    made = np.array(values, np.float32)
    return np.asarray(made / np.linalg.norm(made), np.float32)


X, Y, Z = (1, 0, 0), (0, 1, 0), (0, 0, 1)


def test_nobody_near_is_somebody_new() -> None:
    assert place(face(*X), {}, BOUNDS) == Placed("new", None, exemplar=True)
    assert place(face(*X), {"p": [vector(1, 1.4, 0)]}, BOUNDS) == Placed("new", None, exemplar=True)


def test_a_near_face_joins_and_becomes_an_exemplar_where_it_adds_something() -> None:
    assert place(face(1, 0.1, 0), {"p": [vector(*X)]}, BOUNDS) == Placed("joined", "p", exemplar=False)
    assert place(face(1, 0.8, 0), {"p": [vector(*X)]}, BOUNDS) == Placed("joined", "p", exemplar=True)
    full = [vector(1, 0, 0.01 * n) for n in range(MOST_EXEMPLARS)]
    assert place(face(1, 0.8, 0), {"p": full}, BOUNDS) == Placed("joined", "p", exemplar=False)


def test_a_chain_does_not_join() -> None:
    chain = [vector(*X), vector(1, 0.9, 0), vector(0.4, 1, 0)]  # each like the next one
    end = face(*Y)
    assert float(chain[2] @ end.embedding) > BOUNDS.join
    assert float(np.mean([exemplar @ end.embedding >= BOUNDS.agree for exemplar in chain])) > AGREEING_SHARE
    assert place(end, {"p": chain}, BOUNDS).exemplar is False  # joins by two of three, and draws nobody further on
    assert place(face(0, 1, 0.3), {"p": [vector(*X), vector(1, 0.3, 0), vector(0.2, 1, 0)]}, BOUNDS) == Placed("left_out", None)


def test_two_persons_too_near_each_other_get_nobody() -> None:
    assert place(face(1, 1, 0), {"p": [vector(*X)], "q": [vector(*Y)]}, BOUNDS) == Placed("left_out", None)
    assert place(face(1, 0.8, 0), {"p": [vector(*X)], "q": [vector(*Y)]}, BOUNDS) == Placed("joined", "p", exemplar=True)


def test_a_poor_face_is_left_out() -> None:
    assert place(face(*X, quality=0.39), {"p": [vector(*X)]}, BOUNDS) == Placed("left_out", None)


def test_more_persons_ask_for_a_higher_score() -> None:
    few, many = (Bounds.of(calibration(), far=1e-3, persons=count) for count in (10, 10_000))
    assert few.join < many.join
    assert few.agree == many.agree == pytest.approx(0.2)  # of the made-up table: FAR 1e-2


def test_ids_come_from_the_founding_sighting() -> None:
    assert person_id_of(str(uuid.UUID(int=1))) == person_id_of(str(uuid.UUID(int=1))) != person_id_of(str(uuid.UUID(int=2)))
