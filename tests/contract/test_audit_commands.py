"""``sightline audit verify``, and commands that leave entries."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from core.audit.store import AuditFilter, AuditStore
from core.ports import Database
from enrollment.store import GalleryStore
from sightings.forgetting import forget_subject
from tests.builders.audit import draft, tamper

Command = Callable[..., Result]


@pytest.fixture
def command(database_dir: Path, db: Database) -> Command:
    return lambda *words: CliRunner().invoke(app, ["--data", str(database_dir), *words])


async def run(command: Command, *words: str) -> Result:
    import asyncio

    return await asyncio.to_thread(command, *words)


async def test_a_sound_chain_prints_an_anchor_that_later_proves_the_end(db: Database, command: Command) -> None:
    store = AuditStore(db)
    await store.append([draft(number) for number in range(5)])
    first = await run(command, "audit", "verify", "--json")
    line = json.loads(first.stdout)
    seq, head = await store.head()
    assert (first.exit_code, line) == (0, {"whole": True, "entries": 5, "first": 1, "anchor": f"{seq}:{head.hex()}", "broken": None})
    await tamper(
        db,
        "delete from audit where seq >= 4",
        "update audit_head set (seq, hash) = (select seq, hash from audit order by seq desc limit 1)",
    )
    cut = await run(command, "audit", "verify", "--anchor", line["anchor"], "--json")
    found = json.loads(cut.stdout)["broken"]
    assert (cut.exit_code, found) == (1, {"seq": 4, "fault": "tail_cut", "text": "entry 4 to 5: removed from the end"})


async def test_people_are_told_what_is_wrong(db: Database, command: Command) -> None:
    await AuditStore(db).append([draft(number) for number in range(3)])
    assert "whole: 3 entries, 1 to 3" in (await run(command, "audit", "verify")).stderr
    await tamper(db, "update audit set actor = 'key:9' where seq = 2")
    broken = await run(command, "audit", "verify", "--since", "-1h")
    assert (broken.exit_code, broken.stderr) == (1, "broken after 1 sound entries: entry 2: changed, or made without the key\n")


@pytest.mark.parametrize("anchor", ["x", "1:zz", "1:" + "0" * 62, ":" + "0" * 64, "-1:" + "0" * 64])
async def test_an_anchor_that_is_none_is_refused(command: Command, anchor: str) -> None:
    refused = await run(command, "audit", "verify", "--anchor", anchor)
    assert str(refused.exception) == "--anchor: expected SEQ:HASH as 'audit verify' prints it and the log of the API keeps it"


async def test_commands_that_read_and_change_people_are_kept(db: Database, command: Command) -> None:
    subject = await GalleryStore(db, forget=forget_subject).make_subject("Ada", collection="default")
    for words in (["list"], ["show", "Ada"], ["references", "Ada"], ["rename", "Ada", "Eve"], ["erase", "Eve", "--yes"]):
        assert (await run(command, "subjects", *words)).exit_code == 0
    entries, _ = await AuditStore(db).query(AuditFilter(), limit=9)
    kept = [(entry.draft.action, entry.draft.targets) for entry in reversed(entries)]
    about = (subject.subject_id,)
    assert kept == [
        ("subjects.list", ()),
        ("subject.read", about),
        ("references.list", about),
        ("subject.update", about),
        ("subject.erase", about),
    ]
    assert {entry.draft.actor.partition(":")[0] for entry in entries} == {"cli"}
    assert "Ada" not in repr(entries)
    assert (await AuditStore(db).verify()).broken is None
