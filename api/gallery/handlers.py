"""Who is enrolled: subjects, and subjects who are one person."""

from datetime import timedelta
from typing import Any

from aiohttp import web

from api.cursor import decode_name, page_by_name
from api.errors import sensible
from api.gallery.asked import asked_subject, writable_collection
from api.gallery.models import (
    Consent,
    GalleryView,
    MergeList,
    MergeView,
    NewMerge,
    NewSubject,
    ReceiptView,
    SubjectFields,
    SubjectPage,
    SubjectPatch,
    SubjectQuery,
    SubjectView,
)
from api.notes import note
from api.principal import principal
from api.route import answer, expected_version
from api.services import services, visible
from api.uploads import path_id, read_json, read_query
from core.errors import NotFoundError
from enrollment.erasing import ErasureStore
from enrollment.finding import find_subjects
from enrollment.merging import Merge, MergeStore
from enrollment.record import Receipt, Subject, SubjectChange, SubjectDetails, SubjectFilter
from sightings.naming import Hands


async def list_subjects(request: web.Request) -> web.Response:
    """Return a page of subjects of one collection."""
    query = read_query(request, SubjectQuery)
    collection = principal(request).require_collection(query.collection or services(request).settings.recognize.collection)
    wanted = SubjectFilter(
        name_prefix=query.name_prefix,
        name_contains=query.name_contains,
        external_id=query.external_id,
        attribute=_pair(query.attribute),
        consent=query.consent,
        expired=query.expired,
    )
    after = decode_name(query.cursor)
    found = await find_subjects(services(request).db, collection, wanted, after=after, limit=query.limit + 1)
    page, following = page_by_name(found, query.limit, lambda subject: subject.name)
    note(request, collection=collection, subjects=len(page))
    return answer(SubjectPage(subjects=[SubjectView.of(one) for one in page], next_cursor=following))


async def create_subject(request: web.Request) -> web.Response:
    """Make a subject without references."""
    body = await read_json(request, NewSubject)
    collection = await writable_collection(request, body.collection)
    with sensible():
        subject = await services(request).gallery.make_subject(body.name, collection=collection, details=details_of(body))
    note(request, subject_id=subject.subject_id, collection=collection)
    response = shown(subject, status=201)
    response.headers["Location"] = f"/v1/subjects/{subject.subject_id}"
    return response


async def get_subject(request: web.Request) -> web.Response:
    """Return one subject."""
    return shown(await asked_subject(request))


async def update_subject(request: web.Request) -> web.Response:
    """Change what is recorded of a subject; the matchers learn what concerns them."""
    body = await read_json(request, SubjectPatch)
    subject = await asked_subject(request)
    version, change = expected_version(request), _change(body)
    with sensible():
        subject, generation = await services(request).gallery.change(subject.subject_id, change, version=version)
    note(request, subject_id=subject.subject_id, fields=sorted(change))
    seen = await visible(request, generation)
    return shown(subject, status=200 if seen else 202)


async def erase_subject(request: web.Request) -> web.Response:
    """Erase a subject everywhere and return the receipt; again, the same one."""
    subject_id = path_id(request, "subject_id", "subject")
    receipt = await _receipt(request, subject_id)
    if receipt is None:
        try:
            receipt = await services(request).gallery.erase((await asked_subject(request)).subject_id)
        except NotFoundError:  # perhaps somebody else has erased it at this moment
            receipt = await _receipt(request, subject_id)
            if receipt is None:
                raise
    note(request, subject_id=subject_id, receipt_id=receipt.receipt_id)
    seen = await visible(request, receipt.generation)
    return answer(ReceiptView.of(receipt), status=200 if seen else 202)


async def merge_subjects(request: web.Request) -> web.Response:
    """Make another subject this one."""
    body = await read_json(request, NewMerge)
    survivor = await asked_subject(request)
    other = await asked_subject(request, str(body.other_subject_id))
    with sensible():
        merge = await merges(request).merge(survivor.subject_id, other.subject_id, actor=principal(request).actor, name=body.name)
    note(request, merge_id=merge.merge_id, subject_id=survivor.subject_id, other_subject_id=other.subject_id)
    return await _merge_answer(request, merge)


async def list_merges(request: web.Request) -> web.Response:
    """Return the merges by which others became a subject."""
    subject = await asked_subject(request)
    return answer(MergeList(merges=[MergeView.of(one) for one in await merges(request).of_subject(subject.subject_id)]))


async def get_merge(request: web.Request) -> web.Response:
    """Return one merge."""
    return answer(MergeView.of(await _asked_merge(request)))


async def undo_merge(request: web.Request) -> web.Response:
    """Part two subjects again."""
    merge = await merges(request).undo((await _asked_merge(request)).merge_id)
    note(request, merge_id=merge.merge_id, subject_id=merge.survivor_id, other_subject_id=merge.merged_id)
    return await _merge_answer(request, merge)


async def get_gallery(request: web.Request) -> web.Response:
    """Return how much is enrolled, and whether the matchers have it all."""
    counting = services(request).gallery.counts
    total = await counting()
    granted = principal(request).collections
    counted = [total] if granted is None else [await counting(name) for name in sorted(granted)]
    seen = await visible(request, total.generation)
    return answer(
        GalleryView(
            subjects=sum(one.subjects for one in counted),
            references=sum(one.references for one in counted),
            generation=total.generation,
            visible=seen,
        )
    )


def shown(subject: Subject, status: int = 200) -> web.Response:
    """Return a subject with its ETag."""
    return answer(SubjectView.of(subject), status=status, version=subject.version)


def details_of(fields: SubjectFields) -> SubjectDetails:
    """Return what is recorded of a new subject."""
    return SubjectDetails(
        attributes=fields.attributes,
        consent=_consent(fields.consent),
        expires_at=fields.valid_until,
        valid_from=fields.valid_from,
        external_id=fields.external_id,
        notes=fields.notes,
    )


def _change(patch: SubjectPatch) -> SubjectChange:
    """Return the fields that were given, null ones too."""
    change: SubjectChange = {}
    for name in patch.model_fields_set - {"consent", "valid_until"}:
        change[name] = getattr(patch, name)  # type: ignore[literal-required]
    if "valid_until" in patch.model_fields_set:
        change["expires_at"] = patch.valid_until
    if "consent" in patch.model_fields_set:
        change["consent"] = None if patch.consent is None else patch.consent.model_dump(mode="json", exclude_unset=True)
    return change


def _consent(consent: Consent | None) -> dict[str, Any] | None:
    return consent.model_dump(mode="json", exclude_none=True) if consent else None


def _pair(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    key, _, value = text.partition(":")
    return key, value


async def _receipt(request: web.Request, subject_id: str) -> Receipt | None:
    """Return the receipt of a subject that was erased, if who asks may see it."""
    receipt = await ErasureStore(services(request).db).of_subject(subject_id)
    return receipt if receipt is not None and principal(request).sees_collection(receipt.collection) else None


def merges(request: web.Request) -> MergeStore:
    """Return what merges subjects, with what was seen of them."""
    return MergeStore(services(request).db, hands=Hands(gap=timedelta(seconds=services(request).settings.sightings.episode_gap_s)))


async def _asked_merge(request: web.Request) -> Merge:
    key = path_id(request, "merge_id", "merge")
    merge = await merges(request).get(key)
    if not principal(request).sees_collection(merge.collection):
        raise NotFoundError(f"merge {key}: there is none, or one of the two was erased since")
    return merge


async def _merge_answer(request: web.Request, merge: Merge) -> web.Response:
    seen = await visible(request, merge.generation)
    return answer(MergeView.of(merge), status=200 if seen else 202)
