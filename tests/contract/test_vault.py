"""Faces, embeddings and thumbnails are sealed in the database, and sealed anew when a key is replaced."""

import uuid
from datetime import timedelta
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from core.adapters.postgres import open_database
from core.errors import SettingsError
from core.ports import Database
from core.sealing import SealedColumn, count, reseal
from core.vault import OVERHEAD_BYTES, Vault, label_of
from enrollment.store import SEALED as GALLERY
from enrollment.store import GalleryStore
from sightings.forgetting import forget_subject
from sightings.store import SEALED as SIGHTINGS
from sightings.store import SightingStore
from tests.builders.gallery import new_reference
from tests.builders.sightings import JPEG, arrival

GAP = timedelta(seconds=30)
FACE = b"\xff\xd8 a face that nobody may read"
OLD, NEW = bytes(range(32)), bytes(range(32, 64))
MIGRATIONS = files("deploy") / "migrations"
COLUMNS = (*GALLERY, *SIGHTINGS)


async def filled(db: Database) -> str:
    """Enrol somebody and store a sighting; return the reference's id."""
    added = await GalleryStore(db, forget=forget_subject).add_reference("Ada", new_reference(7, face_jpeg=FACE), collection="default")
    await SightingStore(db, episode_gap=GAP).upsert([arrival()])
    return added.reference_id


async def reseal_all(db: Database) -> int:
    return sum([await _resealed(db, where) for where in COLUMNS])


async def _resealed(db: Database, where: SealedColumn) -> int:
    return sum([done async for done in reseal(db, where)])


async def test_nothing_of_a_face_is_in_the_tables(db: Database) -> None:
    reference_id = await filled(db)
    rows = await db.fetch("select face_jpeg, embedding from reference join reference_embedding using (reference_id)")
    thumbnails = await db.fetch("select thumbnail, embedding from sighting")
    stored = [bytes(value) for row in (*rows, *thumbnails) for value in row.values() if value is not None]
    assert len(stored) >= 3
    plain = new_reference(7, face_jpeg=FACE)
    for value in stored:
        assert plain.face_jpeg not in value
        assert plain.vector.tobytes()[:16] not in value
        assert JPEG not in value
    assert await GalleryStore(db, forget=forget_subject).face_jpeg(reference_id) == plain.face_jpeg


async def test_a_new_key_seals_everything_anew_beside_values_that_were_never_sealed(fresh_postgres_url: str, tmp_path: Path) -> None:
    async with open_database(fresh_postgres_url, data_dir=tmp_path, migrations=MIGRATIONS, vault=Vault([OLD])) as db:
        reference_id = await filled(db)
        await db.execute("update sighting set thumbnail = $1", JPEG)  # of a release that sealed nothing
        assert [await count(db, where) for where in GALLERY[:2]] == [(1, 0), (1, 0)]
    async with open_database(fresh_postgres_url, data_dir=tmp_path, migrations=MIGRATIONS, vault=Vault([NEW, OLD])) as db:
        assert [await count(db, where) for where in GALLERY[:2]] == [(0, 1), (0, 1)]
        assert await reseal_all(db) >= 3
        assert {(await count(db, where))[1] for where in COLUMNS} == {0}
        assert await reseal_all(db) == 0
        await db.execute("delete from vault_key where key_id <> $1", db.vault.newest)
    async with open_database(fresh_postgres_url, data_dir=tmp_path, migrations=MIGRATIONS, vault=Vault([NEW])) as db:
        assert await GalleryStore(db, forget=forget_subject).face_jpeg(reference_id) == new_reference(7, face_jpeg=FACE).face_jpeg
        (row,) = await db.fetch("select sighting_id from sighting")
        assert await SightingStore(db, episode_gap=GAP).thumbnail(str(row["sighting_id"])) == JPEG
    with pytest.raises(SettingsError, match="this database is sealed with another key"):
        async with open_database(fresh_postgres_url, data_dir=tmp_path, migrations=MIGRATIONS, vault=Vault([OLD])):
            pass


async def test_what_no_key_opens_is_left_as_it_is_whatever_its_length(fresh_postgres_url: str, tmp_path: Path) -> None:
    faces = GALLERY[0]
    async with open_database(fresh_postgres_url, data_dir=tmp_path, migrations=MIGRATIONS, vault=Vault([OLD])) as db:
        await filled(db)
        (row,) = await db.fetch("select reference_id from reference")
        sealed = db.vault.seal(FACE + b"x" * (-(len(FACE) + OVERHEAD_BYTES) % 4), label=label_of("face", row["reference_id"]))
        assert len(sealed) % 4 == 0  # as long as an embedding might be
        await db.execute("update reference set face_jpeg = $1", sealed)
        await db.execute("insert into vault_key (key_id) values ($1)", Vault([NEW]).newest)  # an interrupted rotation, the old key lost
    async with open_database(fresh_postgres_url, data_dir=tmp_path, migrations=MIGRATIONS, vault=Vault([NEW])) as db:
        with pytest.raises(SettingsError, match="add it to old_secret_keys"):
            await _resealed(db, faces)
        assert bytes((await db.fetch("select face_jpeg from reference"))[0]["face_jpeg"]) == sealed


def test_a_value_opens_in_its_own_row_only() -> None:
    vault, row, other = Vault([NEW]), uuid.uuid4(), uuid.uuid4()
    sealed = vault.seal(b"face", label=label_of("face", row))
    assert len(sealed) == 4 + OVERHEAD_BYTES
    assert vault.open(sealed, label=label_of("face", str(row))) == b"face"
    with pytest.raises(SettingsError, match="belongs to another row"):
        vault.open(sealed, label=label_of("face", other))
    with pytest.raises(SettingsError, match="sealed with a key that is not here"):
        Vault([OLD]).open(sealed, label=label_of("face", row))
    assert np.frombuffer(vault.open(vault.seal(b"", label="x"), label="x"), "u1").size == 0
