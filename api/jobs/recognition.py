"""Batch recognition: who is on each of many pictures and in whole videos, as ``sightline identify`` says it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from api.jobs.files import JobFiles
from api.jobs.imports import visible_names
from api.jobs.lease import Lease
from api.jobs.outcomes import UNKEEPABLE, plain, put_off
from api.jobs.record import Done, Item, ItemState, Job, NewItem
from api.jobs.work import Session
from api.storage.store import upload_key
from core.errors import NotFoundError, UnavailableError, UnreadableMediaError
from core.photo import MAX_BYTES, UnsupportedPhotoError, decode_photo
from core.schema import Sighting
from core.types import Frame
from enrollment.archive import Archive, open_archive
from ingest.video import read_video
from recognize.recognizer import Recognizer, Shown, Told
from recognize.still import FaceAnswer, StillRecognizer

BATCH: Final = 4  # pictures between two looks at the lease
PARTIAL_S: Final = 5.0  # how often a video that is being looked at tells what was seen so far
CAMERA: Final = "jobs"  # in metrics; each video has a recognizer of its own
START_BYTES: Final = 16  # of a file: its content decides what it is
PICTURE_STARTS: Final = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"BM", b"II*\x00", b"MM\x00*", b"P2", b"P3", b"P5", b"P6")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecognizeWork:
    """Batch recognition."""

    still: StillRecognizer
    recognizer: Callable[[str], Recognizer]
    """Returns one with no tracks yet, for a collection."""
    max_attempts: int

    @asynccontextmanager
    async def open(self, lease: Lease, files: JobFiles) -> AsyncIterator[Session]:
        """Open a job."""
        params = lease.job.params
        archive = None
        if params.get("zip_upload_id"):
            archive = await asyncio.to_thread(open_archive, await files.upload(params["zip_upload_id"]))
        yield Recognition(job=lease.job, files=files, archive=archive, work=self)


class Recognition:
    """One job of recognition."""

    batch = BATCH

    def __init__(self, *, job: Job, files: JobFiles, archive: Archive | None, work: RecognizeWork) -> None:
        self._job, self._files, self._archive, self._work = job, files, archive, work

    async def list_items(self) -> list[NewItem]:
        """List the files: uploads, then what is in the zip, then what is in the inbox."""
        params = self._job.params
        items = [NewItem(input={"file": name, "upload": key}) for key, name in params.get("named_uploads", {}).items()]
        if self._archive is not None:
            items += [NewItem(input={"file": plain(one.name), "problem": one.words}) for one in self._archive.problems]
            items += [_listed(n, "member", n) for n in visible_names([m.name for m in self._archive.members])]
        if params.get("prefix"):
            prefix = params["prefix"]
            items += [_listed(n, "key", f"{prefix}/{n}") for n in visible_names(await self._files.names(prefix))]
        return items

    async def work(self, items: Sequence[Item], lease: Lease) -> None:
        """Look at some files; each is recorded at once."""
        for item in items:
            try:
                await lease.finish([await self._one(item, lease)])
            except _ReadError as err:
                await lease.finish([put_off(item, str(err), most=self._work.max_attempts)])
            except (UnreadableMediaError, NotFoundError) as err:
                reason = "unsupported" if isinstance(err, UnsupportedPhotoError) else "unreadable"
                await lease.finish([Done(seq=item.seq, state="rejected", reason=reason, detail=plain(str(err)))])

    async def _one(self, item: Item, lease: Lease) -> Done:
        given = item.input
        if problem := given.get("problem"):
            return Done(seq=item.seq, state="rejected", reason="unsupported", detail=problem)
        if self._archive is not None and "member" in given:
            data = await asyncio.to_thread(self._archive.read, given["member"])
            if not is_picture(data[:START_BYTES], given["file"]):
                raise UnsupportedPhotoError("is no picture; send videos as uploads of their own, or put them into the inbox")
            return await self._picture(item, data)
        with _reading():
            start = await self._files.small(self._key(item), most=START_BYTES - 1)
        if not is_picture(start, given["file"]):
            return await self._video(item, lease)
        with _reading():
            data = await self._files.small(self._key(item), most=MAX_BYTES)
        return await self._picture(item, data)

    async def _picture(self, item: Item, data: bytes) -> Done:
        image = await asyncio.to_thread(decode_photo, data, name=PurePosixPath(item.input["file"]).name)
        params = self._job.params
        faces = await self._work.still.recognize(
            image, collection=self._job.collection, k=params.get("k", 5), threshold=params.get("threshold")
        )
        shown = [face_result(face) for face in faces if face.decision.outcome != "opted_out"]
        named = {one["subject_id"] for face in shown for one in face["candidates"]}
        result = {"type": "picture", "width_px": image.shape[1], "height_px": image.shape[0], "faces": shown}
        return Done(seq=item.seq, state="done", result=result, subject_ids=tuple(named))

    async def _video(self, item: Item, lease: Lease) -> Done:
        """Look at a video; what was seen so far is told now and then, and all of it at the end."""
        with _reading():
            path = await self._files.copy(self._key(item))
        found: list[dict[str, Any]] = []
        recognizer = self._work.recognizer(self._job.collection)
        told_s = time.monotonic()
        problem = ""
        try:
            video = await asyncio.to_thread(read_video, path, every_s=self._job.params.get("every_s", 0.1) or None)
            with video:
                shots = iter(video)
                while (shot := await asyncio.to_thread(next, shots, None)) is not None:
                    found += closed(await recognizer.process([_shown(self._job, item, *shot)]))
                    if time.monotonic() - told_s > PARTIAL_S:
                        told_s = time.monotonic()
                        await lease.finish([self._seen(item, found, at_s=shot[0], state="waiting")])
        except UnreadableMediaError as err:
            if not found:
                raise
            problem = plain(str(err))
        finally:
            self._files.forget(path)
        found += closed(recognizer.finish())
        return self._seen(item, found, state="done", problem=problem)

    def _seen(self, item: Item, found: Sequence[dict[str, Any]], *, state: ItemState, at_s: float | None = None, problem: str = "") -> Done:
        result = {"type": "video", "complete": state == "done" and not problem, "sightings": list(found)}
        if at_s is not None:
            result["until_s"] = round(at_s, 3)
        named = {one["subject_id"] for one in found if one["subject_id"]}
        return Done(seq=item.seq, state=state, detail=problem, result=result, subject_ids=tuple(named))

    def _key(self, item: Item) -> str:
        given = item.input
        return upload_key(given["upload"]) if "upload" in given else self._files.inbox(given["key"])


class _ReadError(Exception):
    """One file can't be read at the moment: its own trouble, not the job's."""


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except UnavailableError as err:
        raise _ReadError(str(err)) from err


def _listed(name: str, where: str, target: str) -> NewItem:
    """Return a file as an item keeps it, in text that the database takes."""
    if plain(name) != name:
        return NewItem(input={"file": plain(name), "problem": UNKEEPABLE})
    return NewItem(input={"file": name, where: target})


def is_picture(start: bytes, name: str) -> bool:
    """Return whether a file begins like a picture, or is called one and is no video."""
    video = b"ftyp" in start or start[:4] in (b"\x1aE\xdf\xa3", b"GIF8") or start[8:12] == b"AVI "
    called = PurePosixPath(name).suffix.lower() in (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".pgm", ".ppm", ".pnm", ".tif", ".tiff")
    return start.startswith(PICTURE_STARTS) or start[8:12] == b"WEBP" or (called and not video)


def face_result(face: FaceAnswer) -> dict[str, Any]:
    """Return a face as it is recorded."""
    return {
        "box": [round(value, 1) for value in face.box],
        "detector_score": round(face.detector_score, 4),
        "quality": round(face.quality.value, 4),
        "quality_reasons": list(face.quality.reasons),
        "outcome": face.decision.outcome,
        "reason": face.decision.reason,
        "threshold": round(face.threshold, 4),
        "candidates": [
            {
                "rank": one.rank,
                "subject_id": one.subject_id,
                "subject": one.subject,
                "reference_id": one.reference_id,
                "score": round(one.score, 4),
                "match": one.score >= face.thresholds.get(one.subject_id, face.threshold),
            }
            for one in face.candidates
        ],
    }


def closed(told: Sequence[Told]) -> list[dict[str, Any]]:
    """Return the sightings that have ended, without those that must not be told of."""
    return [sighting_result(one) for one, _ in told if one.closed and one.outcome in ("subject", "stranger", "unclear")]


def sighting_result(sighting: Sighting) -> dict[str, Any]:
    """Return a sighting as it is recorded; times count from the first frame."""
    return {
        "sighting_id": sighting.sighting_id,
        "outcome": sighting.outcome,
        "reason": sighting.reason,
        "subject_id": sighting.subject_id,
        "subject": sighting.subject,
        "reference_id": sighting.reference_id,
        "score": None if sighting.score is None else round(sighting.score, 4),
        "threshold": round(sighting.threshold, 4),
        "quality": round(sighting.quality, 4),
        "first_s": round(sighting.first_s, 3),
        "last_s": round(sighting.last_s, 3),
        "best_s": round(sighting.best_s, 3),
        "box": [round(value, 1) for value in sighting.best_box],
        "faces": sighting.faces,
    }


def _shown(job: Job, item: Item, t_s: float, image: Any) -> Shown:
    frame_id = f"{job.job_id}/{item.seq}/{t_s:.6f}"
    return Shown(frame=Frame(frame_id=frame_id, camera=CAMERA, captured_s=t_s, image=image), region="file", published_s=t_s)
