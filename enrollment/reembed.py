"""A new model looks at the stored faces, so that nobody has to be enrolled again."""

import asyncio
from collections.abc import Callable
from typing import Final

import numpy as np
import structlog

from core.errors import UnreadableMediaError
from core.jpeg import decode_jpeg
from core.types import F32
from embed.embedder import Embedder
from enrollment.store import GalleryStore

BATCH: Final = 32  # one batch of the embedder, one transaction

Progress = Callable[[int, int], None]
"""Called with how many references are done, and of how many."""

_log = structlog.get_logger(__name__)


async def reembed(store: GalleryStore, embedder: Embedder, *, progress: Progress | None = None) -> int:
    """Embed every reference that the embedder's model has not embedded, and return how many it was.

    Stops and goes on at any place: what is done is stored batch by batch. A stored face that can't be read is logged and left out.

    Raises:
        UnavailableError: the database does not answer. ModelError: the model does not run.
    """
    total = await store.count_lacking(embedder.model)
    after: str | None = None
    seen = done = 0
    while rows := await store.lacking(embedder.model, after=after, limit=BATCH):
        after = rows[-1][0]
        vectors = await asyncio.to_thread(_embed, embedder, rows)
        await store.add_embeddings(embedder.model, vectors)
        seen += len(rows)
        done += len(vectors)
        if progress is not None:
            progress(seen, max(total, seen))
    return done


def _embed(embedder: Embedder, rows: list[tuple[str, bytes, F32]]) -> list[tuple[str, F32]]:
    ids, views = [], []
    for reference_id, face_jpeg, landmarks in rows:
        try:
            image = decode_jpeg(face_jpeg)
        except UnreadableMediaError as err:
            _log.warning("stored face can't be read", reference=reference_id, error=str(err))
            continue
        ids.append(reference_id)
        views.append(embedder.views(image, landmarks[None]))
    if not ids:
        return []
    return list(zip(ids, embedder.embed_views(np.concatenate(views)).vectors, strict=True))
