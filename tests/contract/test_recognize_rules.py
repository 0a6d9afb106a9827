"""Rules in a real database, and a rulebook that follows them."""

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from core.errors import NotFoundError, StaleError
from core.ports import Database
from enrollment.record import Subject
from enrollment.store import GalleryStore
from recognize.rules.follow import open_rulebook
from recognize.rules.rules import Level, Rulebook
from recognize.rules.store import OptOutStore, RulesReader, ThresholdStore
from recognize.rules.target import Target
from sightings.forgetting import forget_subject
from sightings.watchlists import WatchlistStore

FOLLOWED_S = 1.0  # what is promised


async def alice(db: Database, name: str = "alice") -> Subject:
    return await GalleryStore(db, forget=forget_subject).make_subject(name, collection="default")


async def until(book: Rulebook, says: Callable[[Rulebook], Any], within_s: float = FOLLOWED_S) -> None:
    async with asyncio.timeout(within_s):
        while not says(book):  # noqa: ASYNC110 - what is waited for lies behind a connection
            await asyncio.sleep(0.005)


async def test_a_threshold_is_set_changed_and_taken_away(db: Database) -> None:
    store = ThresholdStore(db)
    first = await store.put("deployment", "default", Target(fpir=0.001), actor="key:1")
    assert (first.version, first.target, first.updated_by) == (1, Target(fpir=0.001), "key:1")
    second = await store.put("deployment", "default", Target(score=0.6), actor="key:2", version=1)
    assert (second.version, second.target) == (2, Target(score=0.6))
    assert await store.get("deployment", "default") == second
    with pytest.raises(StaleError, match=r"threshold deployment/default: has version 2 by now, not 1; read it again"):
        await store.put("deployment", "default", Target(score=0.5), actor="key:1", version=1)
    with pytest.raises(StaleError, match=r"has version 2 by now, not 1"):
        await store.delete("deployment", "default", version=1)
    await store.delete("deployment", "default", version=2)
    with pytest.raises(NotFoundError, match=r"^threshold deployment/default: none is set$"):
        await store.get("deployment", "default")
    with pytest.raises(NotFoundError, match=r"^threshold deployment/default: none is set$"):
        await store.delete("deployment", "default")


@pytest.mark.parametrize("level", ["collection", "watchlist", "camera", "subject"])
async def test_nothing_is_set_for_what_is_not_there(db: Database, level: Level) -> None:
    with pytest.raises(NotFoundError, match=rf"^{level} 'nothing': there is none$"):
        await ThresholdStore(db).put(level, "nothing", Target(score=0.5), actor="a")


async def test_thresholds_come_in_pages_by_level_and_key(db: Database) -> None:
    person, store = await alice(db), ThresholdStore(db)
    await WatchlistStore(db).add("vip", collection="default")
    await WatchlistStore(db).add("staff", collection="default")
    places: list[tuple[Level, str]] = [
        ("deployment", "default"), ("collection", "default"), ("watchlist", "staff"), ("watchlist", "vip"), ("subject", person.subject_id),
    ]  # fmt: skip
    for level, key in reversed(places):
        await store.put(level, key, Target(score=0.5), actor="a")
    assert [(one.level, one.key) for one in await store.all()] == places
    assert [(one.level, one.key) for one in await store.all(after=(2, "staff"), limit=1)] == [("watchlist", "vip")]
    assert [one.key for one in await store.all(level="watchlist")] == ["staff", "vip"]


async def test_what_is_not_granted_is_as_if_it_were_not_there(db: Database) -> None:
    person = await alice(db)
    await WatchlistStore(db).add("vip", collection="default")
    await db.execute("insert into camera (name, url_encrypted, url_redacted, groups) values ('door', '', '', '{lobby}')")
    places: list[tuple[Level, str]] = [("collection", "default"), ("watchlist", "vip"), ("camera", "door"), ("subject", person.subject_id)]
    for level, key in places:
        await ThresholdStore(db).put(level, key, Target(score=0.5), actor="a")
    seen = {
        "everything": (None, None, None),
        "nothing": (["other"], ["other"], ["yard"]),
        "the collection": (["default"], ["other"], ["yard"]),
        "the watchlist": (None, ["vip"], ["yard"]),
        "the watchlist without its collection": (["other"], ["vip"], ["yard"]),
        "the camera": (["other"], ["other"], ["lobby", "yard"]),
    }
    found = {name: [one.level for one in await ThresholdStore(db, grants).all()] for name, grants in seen.items()}
    assert found == {
        "everything": ["collection", "watchlist", "camera", "subject"],
        "nothing": [],
        "the collection": ["collection", "subject"],
        "the watchlist": ["collection", "watchlist", "subject"],
        "the watchlist without its collection": [],
        "the camera": ["camera"],
    }
    foreign = ThresholdStore(db, (["other"], ["other"], ["yard"]))
    for level, key in places:
        with pytest.raises(NotFoundError, match=rf"^threshold {level}/{key}: none is set$"):
            await foreign.get(level, key)
        with pytest.raises(NotFoundError, match=rf"^threshold {level}/{key}: none is set$"):
            await foreign.delete(level, key)
        with pytest.raises(NotFoundError, match=rf"^{level} '{key}': there is none$"):
            await foreign.put(level, key, Target(score=0.1), actor="a")


async def test_a_threshold_goes_with_what_it_is_of_and_follows_its_name(db: Database) -> None:
    person, store = await alice(db), ThresholdStore(db)
    await WatchlistStore(db).add("vip", collection="default")
    await db.execute("insert into camera (name, url_encrypted, url_redacted) values ('door', '', '')")
    for level, key in (("watchlist", "vip"), ("camera", "door"), ("subject", person.subject_id)):
        await store.put(level, key, Target(score=0.5), actor="a")  # type: ignore[arg-type]
    await db.execute("update watchlist set name = 'vips' where name = 'vip'")
    await db.execute("update camera set name = 'gate' where name = 'door'")
    assert {one.key for one in await store.all()} == {"vips", "gate", person.subject_id}
    await WatchlistStore(db).remove("vips")
    await db.execute("delete from camera")
    await GalleryStore(db, forget=forget_subject).erase(person.subject_id)
    assert await store.all() == []


async def test_a_rulebook_follows_every_kind_of_rule_within_a_second(db: Database) -> None:
    person = await alice(db)
    await ThresholdStore(db).put("deployment", "default", Target(score=0.5), actor="a")
    async with open_rulebook(db) as book, open_rulebook(db) as other:
        assert book.now.targets == {("deployment", "default"): Target(score=0.5)}
        before = book.now
        await ThresholdStore(db).put("subject", person.subject_id, Target(far=0.001), actor="a")
        for one in (book, other):
            await until(one, lambda book: ("subject", person.subject_id) in book.now.targets)
        assert before.targets == {("deployment", "default"): Target(score=0.5)}  # a snapshot stays as it was
        await OptOutStore(db).put(person.subject_id, reason="asked", actor="a")
        await until(book, lambda book: book.now.opted_out == {person.subject_id})
        lists = WatchlistStore(db)
        await lists.add("vip", collection="default")
        await lists.put("vip", ["alice"])
        await ThresholdStore(db).put("watchlist", "vip", Target(score=0.7), actor="a")
        await until(book, lambda book: [one.name for one in book.now.listed.get(person.subject_id, ())] == ["vip"])
        await lists.set_enabled("vip", False)
        await until(book, lambda book: not book.now.listed)
        await lists.set_enabled("vip", True)
        await until(book, lambda book: book.now.listed)
        await lists.take("vip", ["alice"])
        await until(book, lambda book: not book.now.listed)
        await GalleryStore(db, forget=forget_subject).erase(person.subject_id)
        await until(book, lambda book: set(book.now.targets) == {("deployment", "default"), ("watchlist", "vip")})
        assert book.now.opted_out == frozenset()


async def test_a_rulebook_that_lost_its_connection_reads_what_it_missed(db: Database) -> None:
    async with open_rulebook(db) as book:
        listeners = "select pid from pg_stat_activity where query ilike 'listen%rules%' and pid <> pg_backend_pid()"
        async with asyncio.timeout(5):
            while not (rows := await db.fetch(listeners)):  # noqa: ASYNC110 - likewise
                await asyncio.sleep(0.01)
        async with db.transaction() as tx:
            for row in rows:
                await tx.fetch("select pg_terminate_backend($1)", row["pid"])
            await ThresholdStore(tx).put("deployment", "default", Target(score=0.9), actor="a")
        await until(book, lambda book: book.now.targets == {("deployment", "default"): Target(score=0.9)}, within_s=5)
        await ThresholdStore(db).delete("deployment", "default")
        await until(book, lambda book: not book.now.targets, within_s=5)


async def test_many_changes_at_once_are_few_reads(db: Database) -> None:
    person = await alice(db)
    async with open_rulebook(db) as book:
        for n in range(200):
            await ThresholdStore(db).put("subject", person.subject_id, Target(score=n / 200), actor="a")
        await until(book, lambda book: book.now.targets.get(("subject", person.subject_id)) == Target(score=199 / 200))


async def test_opt_outs_are_listed_by_page_and_collection(db: Database) -> None:
    store, gallery = OptOutStore(db), GalleryStore(db, forget=forget_subject)
    people = [await alice(db, f"p{n}") for n in range(3)] + [await gallery.make_subject("other", collection="vips")]
    for person in people:
        made = await store.put(person.subject_id, reason="asked by letter", actor="user:1")
        assert (made.reason, made.set_by, made.collection) == ("asked by letter", "user:1", person.collection)
    ids = sorted(person.subject_id for person in people)
    assert [one.subject_id for one in await store.all()] == ids
    assert [one.subject_id for one in await store.all(after=ids[0], limit=2)] == ids[1:3]
    assert [one.subject_id for one in await store.all(collections=["vips"])] == [people[3].subject_id]
    await store.delete(ids[0])
    with pytest.raises(NotFoundError, match=rf"^subject '{ids[0]}': has not opted out$"):
        await store.delete(ids[0])
    absent = str(uuid.UUID(int=5))
    with pytest.raises(NotFoundError, match=rf"^subject '{absent}': there is none$"):
        await store.put(absent, reason="", actor="a")
    assert len((await RulesReader(db).read()).opted_out) == 3
