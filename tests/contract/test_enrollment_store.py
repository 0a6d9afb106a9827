"""enrollment.store over a real PostgreSQL."""

import asyncio
import uuid
from datetime import UTC, datetime

import numpy as np
import pytest

from core.errors import ConflictError, NotFoundError, UsageError
from core.ports import Database
from enrollment.record import SubjectDetails
from enrollment.store import GalleryStore, reference_id_of
from sightings.forgetting import forget_subject
from tests.builders.gallery import new_reference, unit


@pytest.fixture
def store(db: Database) -> GalleryStore:
    return GalleryStore(db, forget=forget_subject)


async def changes(db: Database) -> list[tuple[int, str, str]]:
    rows = await db.fetch("select generation, action, reference_id from gallery_change order by generation")
    return [(row["generation"], row["action"], str(row["reference_id"])) for row in rows]


async def test_first_reference_makes_collection_and_subject(store: GalleryStore, db: Database) -> None:
    added = await store.add_reference(" Ann   Lee ", new_reference(1), collection="staff")
    subject = await store.subject("Ann Lee")
    assert (subject.subject_id, subject.collection, subject.name, subject.references) == (added.subject_id, "staff", "Ann Lee", 1)
    assert await store.collections() == ["default", "staff"]
    (reference,) = await store.references(subject.subject_id)
    assert (reference.reference_id, reference.source, reference.models) == (added.reference_id, "1.jpg", ("painted",))
    assert reference.quality_reasons == ("blurred",)
    assert await store.face_jpeg(added.reference_id) == b"\xff\xd8\x01"
    assert await changes(db) == [(1, "put", added.reference_id)]


async def test_enrolling_twice_is_one_reference_and_one_generation(store: GalleryStore, db: Database) -> None:
    first = await store.add_reference("ann", new_reference(1), collection="default")
    second = await store.add_reference("ann", new_reference(1), collection="default")
    assert second.reference_id == first.reference_id == str(reference_id_of(first.subject_id, (1).to_bytes(32, "big"), 0))
    assert (first.generation, second.generation) == (1, None)
    assert len(await changes(db)) == 1


async def test_side_by_side_enrolments_have_gapless_generations(store: GalleryStore, db: Database) -> None:
    added = await asyncio.gather(*(store.add_reference(f"s{n % 3}", new_reference(n), collection="default") for n in range(24)))
    assert sorted(one.generation or 0 for one in added) == list(range(1, 25))
    assert [generation for generation, _, _ in await changes(db)] == list(range(1, 25))
    assert (await store.counts()).generation == 24
    assert (await store.counts("default")).subjects == 3


async def test_changes_of_last_week_go_as_new_ones_come(store: GalleryStore, db: Database) -> None:
    for n in range(6):
        await store.add_reference("ann", new_reference(n), collection="default")
    await db.execute("update gallery_change set changed_at = now() - interval '8 days' where generation <= 3")
    await store.add_reference("ann", new_reference(6), collection="default")
    assert [generation for generation, _, _ in await changes(db)] == [3, 4, 5, 6, 7]
    await store.add_reference("ann", new_reference(7), collection="default")
    assert [generation for generation, _, _ in await changes(db)] == [4, 5, 6, 7, 8]


async def test_each_change_is_told_with_its_generation(store: GalleryStore, db: Database) -> None:
    async with db.listen("gallery") as payloads:
        added = await store.add_reference("ann", new_reference(1), collection="default")
        await store.delete_reference(added.reference_id)
        assert [await anext(payloads), await anext(payloads)] == ["1", "2"]


async def test_details_are_merged_not_replaced(store: GalleryStore) -> None:
    when = datetime(2030, 1, 1, tzinfo=UTC)
    details = SubjectDetails(attributes={"a": 1, "b": 1}, consent={"purpose": "door"}, expires_at=when)
    await store.add_reference("ann", new_reference(1), collection="default", details=details)
    await store.add_reference("ann", new_reference(2), collection="default", details=SubjectDetails(attributes={"b": 2}))
    subject = await store.subject("ann")
    assert (subject.attributes, subject.consent, subject.expires_at) == ({"a": 1, "b": 2}, {"purpose": "door"}, when)


async def test_a_new_expiry_is_told_for_every_reference(store: GalleryStore, db: Database) -> None:
    await store.add_reference("ann", new_reference(1), collection="default")
    await store.add_reference("ann", new_reference(2), collection="default")
    await store.change("ann", {"attributes": {"a": 1}})
    assert len(await changes(db)) == 2
    await store.change("ann", {"expires_at": datetime(2030, 1, 1, tzinfo=UTC)})
    assert [action for _, action, _ in await changes(db)] == ["put"] * 4


async def test_of_many_who_take_a_name_at_once_one_gets_it(store: GalleryStore) -> None:
    made = await asyncio.gather(*(store.make_subject("ann", collection="new") for _ in range(4)), return_exceptions=True)
    assert sorted(str(one) for one in made if isinstance(one, Exception)) == ["subject 'ann': is already in collection new"] * 3


async def test_subject_by_id_or_name_and_collection(store: GalleryStore) -> None:
    one = await store.make_subject("ann", collection="a")
    other = await store.make_subject("ann", collection="b")
    assert await store.subject(one.subject_id) == one
    assert await store.subject("ann", collection="b") == other
    with pytest.raises(ConflictError, match="subject 'ann': is in a, b; name the collection"):
        await store.subject("ann")
    with pytest.raises(NotFoundError, match="subject 'bob': there is none; 'sightline subjects list' shows all"):
        await store.subject("bob")
    with pytest.raises(NotFoundError):
        await store.subject("ann\x00")
    with pytest.raises(NotFoundError):
        await store.subject(str(uuid.uuid4()))


async def test_making_a_subject_twice_is_a_conflict(store: GalleryStore) -> None:
    await store.make_subject("ann", collection="default")
    with pytest.raises(ConflictError, match="subject 'ann': is already in collection default"):
        await store.make_subject("ann", collection="default")


@pytest.mark.parametrize("name", ["", "   ", "a\x00b", "x" * 201, "a\x1b[31mb"])
async def test_names_that_can_not_be(store: GalleryStore, name: str) -> None:
    with pytest.raises(UsageError, match="subject name"):
        await store.make_subject(name, collection="default")


@pytest.mark.parametrize("name", ["", "a b", "../x", "x" * 65, "ä"])
async def test_collections_that_can_not_be(store: GalleryStore, name: str) -> None:
    with pytest.raises(UsageError, match="use 1 to 64 letters, digits, dots, dashes and underscores"):
        await store.make_subject("ann", collection=name)


async def test_pages_by_name(store: GalleryStore) -> None:
    for name in ("dan", "bob", "ann", "cyd"):
        await store.make_subject(name, collection="default")
    first = await store.subjects("default", limit=3)
    assert [subject.name for subject in first] == ["ann", "bob", "cyd"]
    assert [subject.name for subject in await store.subjects("default", after="cyd", limit=3)] == ["dan"]


async def test_rename_tells_the_matchers(store: GalleryStore, db: Database) -> None:
    added = await store.add_reference("ann", new_reference(1), collection="default")
    renamed = await store.rename("ann", "Ann Lee")
    assert (renamed.subject_id, renamed.name) == (added.subject_id, "Ann Lee")
    assert await changes(db) == [(1, "put", added.reference_id), (2, "put", added.reference_id)]


async def test_rename_to_a_taken_name_changes_nothing(store: GalleryStore) -> None:
    await store.make_subject("ann", collection="default")
    await store.make_subject("bob", collection="default")
    with pytest.raises(ConflictError, match="subject 'bob': is already in collection default; choose another name"):
        await store.rename("ann", "bob")
    assert (await store.rename("ann", "ann")).name == "ann"


async def test_erasure_leaves_nothing_but_a_receipt(store: GalleryStore, db: Database) -> None:
    await store.add_reference("Ann Secret", new_reference(1), collection="default", details=SubjectDetails(attributes={"k": "Secret"}))
    await store.add_reference("Ann Secret", new_reference(2), collection="default")
    await store.add_reference("bob", new_reference(3), collection="default")
    receipt = await store.erase("Ann Secret")
    assert (receipt.references, receipt.embeddings, receipt.sightings, receipt.generation) == (2, 2, 0, 5)
    assert [subject.name for subject in await store.subjects()] == ["bob"]
    assert [action for _, action, _ in await changes(db)] == ["put", "put", "put", "delete", "delete"]
    for row in await db.fetch("select tablename from pg_tables where schemaname = 'public'"):
        content = await db.fetch(f"select t::text as line from {row['tablename']} t")
        assert not any("Secret" in one["line"] for one in content), row["tablename"]


async def test_erasure_forgets_in_the_same_transaction(db: Database) -> None:
    async def refuse(tx: Database, subject_id: str) -> int:
        await tx.execute("delete from reference where subject_id = $1", subject_id)
        raise ConflictError("not now")

    store = GalleryStore(db, forget=refuse)
    await store.add_reference("ann", new_reference(1), collection="default")
    with pytest.raises(ConflictError, match="not now"):
        await store.erase("ann")
    assert (await store.subject("ann")).references == 1


async def test_an_erased_subject_may_be_enrolled_anew(store: GalleryStore) -> None:
    first = await store.add_reference("ann", new_reference(1), collection="default")
    await store.erase("ann")
    second = await store.add_reference("ann", new_reference(1), collection="default")
    assert second.subject_id != first.subject_id
    assert second.reference_id != first.reference_id


async def test_enrolling_while_erasing_ends_with_all_or_nothing(store: GalleryStore, db: Database) -> None:
    for n in range(5):
        await store.add_reference("ann", new_reference(1), collection="default")
        await asyncio.gather(
            store.erase("ann"),
            *(store.add_reference("ann", new_reference(10 * n + m), collection="default") for m in range(3)),
            return_exceptions=True,
        )
    orphans = await db.fetch("select from reference_embedding where reference_id not in (select reference_id from reference)")
    assert orphans == []
    generations = [generation for generation, _, _ in await changes(db)]
    assert generations == list(range(1, len(generations) + 1))


async def test_deleting_a_reference(store: GalleryStore, db: Database) -> None:
    added = await store.add_reference("ann", new_reference(1), collection="default")
    assert await store.delete_reference(added.reference_id) == 2
    assert (await store.subject("ann")).references == 0
    for wrong in (added.reference_id, "no id"):
        with pytest.raises(NotFoundError, match=r"reference .*: there is none"):
            await store.delete_reference(wrong)
    with pytest.raises(NotFoundError):
        await store.face_jpeg(added.reference_id)


async def test_known_content(store: GalleryStore) -> None:
    added = await store.add_reference("ann", new_reference(1), collection="default")
    (known,) = await store.known((1).to_bytes(32, "big"), collection="default", model="painted")
    assert (known.subject, known.reference_id, known.source, known.embedded) == ("ann", added.reference_id, "1.jpg", True)
    (known,) = await store.known((1).to_bytes(32, "big"), collection="default", model="new model")
    assert known.embedded is False
    assert await store.known((1).to_bytes(32, "big"), collection="other", model="painted") == []


async def test_references_that_lack_a_model_are_embedded_once(store: GalleryStore, db: Database) -> None:
    added = [await store.add_reference("ann", new_reference(n), collection="default") for n in range(3)]
    assert await store.count_lacking("painted") == 0
    assert await store.count_lacking("new") == 3
    lacking = await store.lacking("new", limit=2)
    assert [reference_id for reference_id, _, _ in lacking] == sorted(one.reference_id for one in added)[:2]
    assert np.array_equal(lacking[0][2], np.arange(10, dtype=np.float32).reshape(5, 2))
    assert await store.add_embeddings("new", [(reference_id, unit(9)) for reference_id, _, _ in lacking]) == 5
    assert await store.add_embeddings("new", [(lacking[0][0], unit(9)), (str(uuid.uuid4()), unit(9))]) is None
    assert await store.count_lacking("new") == 1
    assert len(await changes(db)) == 5
