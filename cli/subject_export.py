"""``sightline subjects export``: everything that is kept of a subject."""

import os
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

from cli.output import run_async
from core.errors import UsageError
from core.settings import Settings


def export_subject(settings: Settings, name: str, path: Path, *, collection: str | None) -> tuple[str, int]:
    """Write the archive, readable by its owner only, whole or not at all; return the subject's id and the size in bytes.

    Raises:
        UsageError: it can't be written. NotFoundError, ConflictError: no such subject; several of this name.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as err:
        raise UsageError(f"{path}: can't be written: {err.strerror}") from err
    try:
        with os.fdopen(descriptor, "wb") as file:
            subject_id = run_async(_write(settings, name, collection, file))
    except BaseException:  # Ctrl-C too: no half of an archive is left
        path.unlink(missing_ok=True)
        raise
    return subject_id, path.stat().st_size


async def _write(settings: Settings, name: str, collection: str | None, file: BinaryIO) -> str:
    from api.privacy.export import Sources, subject_zip
    from cli.audit_chain import keep_command
    from cli.compose import open_gallery
    from sightings.store import SightingStore

    async with open_gallery(settings) as gallery:
        subject = await gallery.store.subject(name, collection=collection)
        await keep_command(gallery.db, "subject.export", subject.subject_id)
        sightings = SightingStore(gallery.db, episode_gap=timedelta(seconds=settings.sightings.episode_gap_s))
        sources = Sources(db=gallery.db, gallery=gallery.store, sightings=sightings, still=gallery.still)
        async for piece in subject_zip(sources, subject):
            file.write(piece)
    return subject.subject_id
