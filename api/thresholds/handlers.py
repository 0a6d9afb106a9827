"""Which score names somebody, at five levels, and why."""

from dataclasses import replace
from typing import get_args

from aiohttp import web

from api.errors import ForbiddenError
from api.gallery.asked import asked_subject
from api.notes import note
from api.principal import Principal, principal
from api.route import answer, expected_version
from api.services import services
from api.thresholds.meaning import AGREEMENT_OF_TRACKS, gallery_of, meaning, warning_of
from api.thresholds.models import (
    EffectiveAnswer,
    EffectiveQuery,
    LookedView,
    ThresholdAnswer,
    ThresholdBody,
    ThresholdPage,
    ThresholdQuery,
    ThresholdView,
    target_of,
)
from api.uploads import read_json, read_query
from core.errors import NotFoundError
from recognize.rules.rules import LEVELS, Level, Looked, Scope
from recognize.rules.store import Grants, Threshold, ThresholdStore
from sightings.record import parse_id


async def list_thresholds(request: web.Request) -> web.Response:
    """Return a page of the thresholds that are set."""
    query = read_query(request, ThresholdQuery)
    after = (-1, "")
    if query.cursor:
        level, _, key = query.cursor.partition("/")
        after = (LEVELS.index(level), key)
    found = await _store(request).all(level=query.level, after=after, limit=query.limit + 1)
    page = found[: query.limit]
    following = f"{page[-1].level}/{page[-1].key}" if len(found) > query.limit else None
    return answer(ThresholdPage(thresholds=[ThresholdView.of(one) for one in page], next_cursor=following))


async def get_threshold(request: web.Request) -> web.Response:
    """Return the threshold that is set at a place."""
    level, key = _place(request)
    return await _answer(request, await _store(request).get(level, key))


async def put_threshold(request: web.Request) -> web.Response:
    """Set the threshold of a place."""
    level, key = _place(request)
    target = (await read_json(request, ThresholdBody)).target()
    who = principal(request)
    _require_deployment(who, level)
    stored = await _store(request).put(level, key, target, actor=who.actor, version=expected_version(request))
    note(request, level=level, key=key, score=target.score, far=target.far, fpir=target.fpir)
    return await _answer(request, stored)


async def delete_threshold(request: web.Request) -> web.Response:
    """Set nothing at a place any more."""
    level, key = _place(request)
    _require_deployment(principal(request), level)
    before = await _store(request).delete(level, key, version=expected_version(request))
    note(request, level=level, key=key)
    return answer(ThresholdView.of(before))


async def get_effective_threshold(request: web.Request) -> web.Response:
    """Explain which threshold applies, and what it means."""
    query, behind, who = read_query(request, EffectiveQuery), services(request), principal(request)
    asked = target_of(query.score, query.far, query.fpir)
    collection = who.require_collection(query.collection or behind.settings.recognize.collection)
    subject_id = None if query.subject_id is None else str(query.subject_id)
    if subject_id is not None:
        collection = (await asked_subject(request, subject_id)).collection
    if query.camera is not None:
        await _require_camera(request, query.camera)
    references = (await behind.gallery.counts(collection)).references
    rules = await _store(request).rules_of(subject_id)
    scope = Scope(collection=collection, camera=query.camera, request=asked)
    agreement = None if query.kind == "single" else AGREEMENT_OF_TRACKS
    found = rules.effective(behind.policy, scope, subject_id=subject_id, references=references, agreement=agreement)
    means = meaning(behind.policy.calibration, found.score, query.kind, references)
    note(request, level=found.applied.level, subject_id=subject_id, collection=collection)
    return answer(
        EffectiveAnswer(
            model=behind.policy.calibration.model,
            kind=query.kind,
            collection=collection,
            references=references,
            level=found.applied.level,
            score=found.score,
            far=means.far,
            fpir=means.fpir,
            warning=warning_of([means]),
            looked=[_looked(who, one, applies=one is found.applied) for one in found.looked],
        )
    )


async def _answer(request: web.Request, threshold: Threshold) -> web.Response:
    policy = services(request).policy
    collection, references = await gallery_of(services(request), threshold)
    single = policy.score(threshold.target, references=references)
    track = policy.score(threshold.target, references=references, agreement=AGREEMENT_OF_TRACKS)
    now = [meaning(policy.calibration, single, "single", references), meaning(policy.calibration, track, "track", references)]
    view = ThresholdAnswer(
        **ThresholdView.of(threshold).model_dump(),
        model=policy.calibration.model,
        collection=collection,
        references=references,
        now=now,
        warning=warning_of(now),
    )
    return answer(view, version=threshold.version)


def _store(request: web.Request) -> ThresholdStore:
    return ThresholdStore(services(request).db, _grants(principal(request)))


def _grants(who: Principal) -> Grants:
    lists = [None if names is None else sorted(names) for names in (who.collections, who.watchlists, who.camera_groups)]
    return lists[0], lists[1], lists[2]


def _place(request: web.Request) -> tuple[Level, str]:
    """Return level and key of the path; a subject's id in its usual spelling. Raises NotFoundError: no such level."""
    level, key = request.match_info["level"], request.match_info["key"]
    if level not in get_args(Level):
        raise NotFoundError(f"threshold level '{level[:64]}': there is none; the levels are {', '.join(LEVELS)}")
    subject_id = parse_id(key) if level == "subject" else None
    return level, (str(subject_id) if subject_id else key)  # type: ignore[return-value]


async def _require_camera(request: web.Request, name: str) -> None:
    """Refuse a camera that is not there, or not for who asks. Raises NotFoundError."""
    rows = await services(request).db.fetch("select groups from camera where name = $1", name)
    if not rows or not principal(request).sees_camera(rows[0]["groups"]):
        raise NotFoundError(f"camera '{name}': there is none")


def _looked(who: Principal, looked: Looked, *, applies: bool) -> LookedView:
    """Return a level; a watchlist that is not granted has no name."""
    hidden = looked.level == "watchlist" and not who.sees_watchlist(looked.key)
    return LookedView.of(replace(looked, key="") if hidden else looked, applies=applies)


def _require_deployment(who: Principal, level: Level) -> None:
    """Refuse a change for everybody by somebody who is granted a part. Raises ForbiddenError."""
    if level == "deployment" and (who.collections, who.watchlists, who.camera_groups) != (None, None, None):
        raise ForbiddenError(f"{who.name} ({who.role}) may not do this: the deployment's threshold needs a grant of everything")
