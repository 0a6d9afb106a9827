"""enrollment.service over a real PostgreSQL and a real shard, with painted people for faces."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from core.errors import UnavailableError, UnreadableMediaError
from core.photo import UnsupportedPhotoError
from core.ports import Database, MatchAnswer
from core.types import F32
from enrollment.record import Outcome, Photo
from enrollment.reembed import reembed
from enrollment.service import Enroller, EnrollOptions
from tests.builders.gallery import new_reference, open_enroller, photo_of, png
from tests.builders.painted import PaintedEmbedder, painted, vector_of


@pytest.fixture
async def enroller(db: Database) -> AsyncIterator[Enroller]:
    async with open_enroller(db) as one:
        yield one


async def run(enroller: Enroller, *photos: Photo, **options: object) -> list[Outcome]:
    outcomes: list[Outcome] = []
    await enroller.enroll_all(photos, outcomes.append, EnrollOptions(**options))  # type: ignore[arg-type]
    return outcomes


def told(outcomes: list[Outcome]) -> list[tuple[str, str, str]]:
    return [(outcome.subject, outcome.status, outcome.reason) for outcome in outcomes]


async def test_people_are_enrolled_and_visible_at_once(enroller: Enroller) -> None:
    outcomes = await run(enroller, photo_of(1, file="ann.png", subject="ann"), photo_of(4, file="bob.png", subject="bob"))
    assert told(outcomes) == [("ann", "enrolled", ""), ("bob", "enrolled", "")]
    assert [outcome.generation for outcome in outcomes] == [1, 2]
    embedder = PaintedEmbedder()
    image = painted({4: (260, 120)}, size_px=120)
    faces = enroller.detector.detect([image])[0]
    vectors = embedder.embed(embedder.chips(image, faces.landmarks)).vectors
    answer = await enroller.matcher.search(vectors, model="painted", collection="default", k=2)
    assert answer.candidates[0][0].subject == "bob"


async def test_a_second_run_changes_nothing_and_looks_at_nothing(enroller: Enroller, db: Database) -> None:
    photos = [photo_of(1, file="ann.png", subject="ann"), photo_of(4, file="bob.png", subject="bob")]
    first = await run(enroller, *photos)
    second = await run(enroller, *photos)
    assert told(second) == [("ann", "unchanged", ""), ("bob", "unchanged", "")]
    assert [outcome.reference_id for outcome in second] == [outcome.reference_id for outcome in first]
    assert [outcome.quality for outcome in second] == pytest.approx([outcome.quality for outcome in first])
    assert (await enroller.store.counts()).generation == 2


async def test_what_is_wrong_with_a_photo_stops_no_other(enroller: Enroller) -> None:
    def refuse() -> bytes:
        raise UnsupportedPhotoError("is a folder")

    def vanish() -> bytes:
        raise UnreadableMediaError("gone")

    photos = [
        Photo(file="a.txt", subject="a", read=lambda: b"hello"),
        Photo(file="b.png", subject="b", read=lambda: png(painted({}))),
        Photo(file="c.png", subject="c", read=lambda: png(painted({1: (60, 100), 4: (460, 100)}, size_px=120))),
        Photo(file="d.png", subject="d", read=lambda: png(painted({1: (200, 100)}, size_px=24, width_px=320, height_px=240))),
        Photo(file="e", subject="e", read=refuse),
        Photo(file="f.jpg", subject="f", read=vanish),
        Photo(file="g.png", subject="  ", read=lambda: png(painted({1: (260, 120)}))),
        Photo(file="h.png", subject="h", read=lambda: png(painted({1: (260, 120)}))[:500]),
        photo_of(1, file="ann.png", subject="ann"),
    ]
    assert told(await run(enroller, *photos)) == [
        ("a", "rejected", "unsupported"),
        ("b", "rejected", "no_face"),
        ("c", "rejected", "several_faces"),
        ("d", "rejected", "too_small"),
        ("e", "rejected", "unsupported"),
        ("f", "rejected", "unreadable"),
        ("  ", "rejected", "unsupported"),
        ("h", "rejected", "unreadable"),
        ("ann", "enrolled", ""),
    ]


async def test_one_face_under_two_names_is_noticed_within_one_import(enroller: Enroller) -> None:
    outcomes = await run(enroller, photo_of(1, file="ann.png", subject="ann"), photo_of(1, file="eve.png", subject="eve", at=(200, 60)))
    assert told(outcomes) == [("ann", "enrolled", ""), ("eve", "rejected", "looks_like_another_subject")]
    assert outcomes[1].detail.startswith("looks like ann (1.000, alike from 0.")


async def test_twins_are_enrolled_when_allowed(enroller: Enroller) -> None:
    photos = (photo_of(1, file="ann.png", subject="ann"), photo_of(1, file="eve.png", subject="eve", at=(200, 60)))
    assert told(await run(enroller, *photos, allow_lookalike=True)) == [("ann", "enrolled", ""), ("eve", "enrolled", "")]


async def test_the_same_file_under_another_name_is_a_duplicate(enroller: Enroller) -> None:
    await run(enroller, photo_of(1, file="ann.png", subject="ann"))
    (outcome,) = await run(enroller, photo_of(1, file="eve.png", subject="eve"))
    assert told([outcome]) == [("eve", "rejected", "duplicate")]
    assert outcome.detail == "exactly this picture is enrolled as ann, from ann.png; use that name, or erase it there first"


async def test_the_same_picture_under_another_file_name_adds_nothing(enroller: Enroller) -> None:
    copies = [photo_of(1, file="ann/1.png", subject="ann"), photo_of(1, file="ann/2.png", subject="ann")]
    await run(enroller, copies[0])
    near = photo_of(1, file="ann/3.png", subject="ann", at=(200, 60))
    assert told(await run(enroller, *copies, near)) == [
        ("ann", "unchanged", ""),
        ("ann", "rejected", "duplicate_of_same_subject"),
        ("ann", "rejected", "duplicate_of_same_subject"),
    ]


async def test_collections_do_not_see_each_other(enroller: Enroller) -> None:
    await run(enroller, photo_of(1, file="ann.png", subject="ann"), collection="one")
    assert told(await run(enroller, photo_of(1, file="eve.png", subject="eve"), collection="two")) == [("eve", "enrolled", "")]


async def test_an_import_larger_than_a_batch_keeps_its_order(enroller: Enroller) -> None:
    photos = [photo_of(1 + n % 5, file=f"{n}.png", subject=f"p{n % 5}", at=(20 * n, 40)) for n in range(20)]
    outcomes = await run(enroller, *photos)
    assert [outcome.file for outcome in outcomes] == [f"{n}.png" for n in range(20)]
    assert [outcome.status for outcome in outcomes[:5]] == ["enrolled"] * 5
    assert {outcome.reason for outcome in outcomes[5:]} == {"duplicate_of_same_subject"}


async def test_an_absent_matcher_stops_the_import_with_its_own_error(enroller: Enroller) -> None:
    class Absent:
        async def search(self, probes: F32, *, model: str, collection: str, k: int) -> MatchAnswer:
            raise UnavailableError("matcher: away")

    with pytest.raises(UnavailableError, match="matcher: away"):
        await run(replace(enroller, matcher=Absent()), photo_of(1, file="ann.png", subject="ann"))
    assert (await enroller.store.counts()).references == 0


async def test_a_new_model_embeds_the_stored_faces(enroller: Enroller) -> None:
    await run(enroller, photo_of(1, file="ann.png", subject="ann"), photo_of(4, file="bob.png", subject="bob"))

    class NewEmbedder(PaintedEmbedder):
        model = "new"

    seen: list[tuple[int, int]] = []
    assert await reembed(enroller.store, NewEmbedder(), progress=lambda done, total: seen.append((done, total))) == 2  # type: ignore[arg-type]
    assert seen == [(2, 2)]
    assert await reembed(enroller.store, NewEmbedder()) == 0  # type: ignore[arg-type]
    rows = await enroller.store.subjects("default")
    assert [(await enroller.store.references(row.subject_id))[0].models for row in rows] == [("new", "painted")] * 2


async def test_the_stored_face_has_surroundings_and_no_metadata(enroller: Enroller) -> None:
    (outcome,) = await run(enroller, photo_of(1, file="ann.png", subject="ann"))
    assert outcome.reference_id is not None
    data = await enroller.store.face_jpeg(outcome.reference_id)
    assert data.startswith(b"\xff\xd8\xff\xe0")
    assert b"Exif" not in data


class Behind:
    """A matcher that answers from an empty gallery for ever: what it has not seen, the database must show."""

    async def search(self, probes: F32, *, model: str, collection: str, k: int) -> MatchAnswer:
        return MatchAnswer(candidates=((),) * len(probes), generation=0, references=0)


async def nobody_waits(generation: int) -> None:
    return None


async def test_one_face_under_two_names_is_noticed_between_imports_that_run_at_once(enroller: Enroller) -> None:
    blind = replace(enroller, matcher=Behind(), await_visible=nobody_waits)
    photos = [photo_of(1, file=f"{name}.png", subject=name, at=(40 * place, 40)) for place, name in enumerate(("ann", "eve", "flo"))]
    outcomes = await asyncio.gather(*(blind.enroll(photo) for photo in photos))
    assert sorted(one.status for one in outcomes) == ["enrolled", "rejected", "rejected"]
    assert {one.reason for one in outcomes} == {"", "looks_like_another_subject"}
    (kept,) = (one.subject for one in outcomes if one.status == "enrolled")
    assert {warned.subject for one in outcomes for warned in one.warnings} == {kept}
    assert (await enroller.store.counts()).references == 1


async def test_nobody_waits_for_anothers_change_to_become_visible(enroller: Enroller) -> None:
    go = asyncio.Event()
    slow = replace(enroller, await_visible=lambda generation: go.wait())  # type: ignore[arg-type, return-value]
    waiting = asyncio.create_task(slow.enroll(photo_of(1, file="ann.png", subject="ann")))
    while not (await enroller.store.counts()).references:  # noqa: ASYNC110 - each look is a question
        await asyncio.sleep(0.01)
    assert (await enroller.enroll(photo_of(4, file="bob.png", subject="bob"))).status == "enrolled"
    assert not waiting.done()
    go.set()
    assert (await waiting).status == "enrolled"


async def test_a_face_that_is_an_embedding_already_is_enrolled_once(enroller: Enroller) -> None:
    new = new_reference(1, vector=vector_of(1))
    first = await enroller.enroll_vector("ann", new, EnrollOptions())
    second = await enroller.enroll_vector("ann", new, EnrollOptions(on_doubt="enroll"))
    other = await enroller.enroll_vector("eve", replace(new, content_sha256=b"2" * 32), EnrollOptions())
    assert (first.status, second.status, second.reference_id) == ("enrolled", "unchanged", first.reference_id)
    assert (other.status, other.reason, other.warnings[0].subject) == ("rejected", "looks_like_another_subject", "ann")
