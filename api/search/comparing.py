"""Faces compared with those subjects of a collection that the filters leave, and what the scores mean."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from aiohttp import web

from api.errors import UnprocessableError
from api.principal import principal
from api.search.models import CandidateView, Choice, Filtered, SearchForm
from api.services import services
from core.errors import NotFoundError
from core.ports import MatchAnswer
from core.types import F32, Candidate
from enrollment.vectors import ReferenceVectors, SubjectFilter
from recognize.rules.rules import Scope
from recognize.rules.target import Target
from recognize.still import SPARE, ranked

FETCH_AGAIN = 8  # times as many candidates when too few of them pass the filters
MOST_CANDIDATES = 1000  # that matchers give (matcher.shard.MAX_K)
AT_FIRST = 4  # times k asked for at first: most filters that people use leave a good share
FEW_REFERENCES = 1000
"""Up to here the filtered references are read and compared one by one as soon as the first question falls short: 2 MB, milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Whom a search is among, checked against what is granted."""

    wanted: SubjectFilter
    k: int
    scope: Scope


async def asked_of(request: web.Request, choice: Choice) -> Asked:
    """Check whom a search is among.

    Raises:
        NotFoundError: no such collection or watchlist, or not for who asks. UnprocessableError: fields that exclude each other.
    """
    behind, who = services(request), principal(request)
    if choice.threshold is not None and choice.fpir is not None:
        raise UnprocessableError("threshold and fpir: give one of them")
    given = choice.threshold is not None or choice.fpir is not None
    target = Target(score=choice.threshold, fpir=choice.fpir) if given else None
    collection = choice.collection
    if choice.watchlist is not None:
        who.require_watchlist(choice.watchlist)
        rows = await behind.db.fetch("select collection from watchlist where name = $1", choice.watchlist)
        if not rows:
            raise NotFoundError(f"watchlist '{choice.watchlist}': there is none")
        collection = collection or rows[0]["collection"]
    collection = who.require_collection(collection or behind.settings.recognize.collection)
    known = collection == behind.settings.recognize.collection  # the deployment's own needs no look
    if not known and not await behind.db.fetch("select from collection where name = $1", collection):
        raise NotFoundError(f"collection '{collection}': there is none")
    wanted = SubjectFilter(collection=collection, attributes=_attributes(choice), watchlist=choice.watchlist)
    return Asked(wanted=wanted, k=choice.k, scope=behind.still.scope(collection, target))


def _attributes(choice: Choice) -> dict[str, object]:
    if isinstance(choice, Filtered):
        given: object = dict(choice.attributes)
    elif isinstance(choice, SearchForm) and choice.attributes:
        try:
            given = json.loads(choice.attributes)
        except (ValueError, RecursionError) as err:
            raise UnprocessableError("attributes: is no JSON object") from err
    else:
        return {}
    if not isinstance(given, dict) or "\\u0000" in (text := json.dumps(given)) or "\\ud8" in text or "\\udc" in text:
        raise UnprocessableError("attributes: is no JSON object that can be stored")
    return given


async def compare(request: web.Request, vectors: F32, asked: Asked) -> MatchAnswer:
    """Return the k nearest subjects that the filters leave, for each face (N, D); ``references`` counts theirs alone.

    Matchers know no filters: they are asked for more candidates than wanted, and where too few of these pass, for more still. Where
    that does not do, the references that the filters leave are compared one by one: whoever is there is found.

    Raises:
        UnavailableError: no matcher answers.
    """
    behind = services(request)
    if asked.wanted.all:
        return await behind.still.compare(vectors, asked.wanted.collection, k=asked.k)
    k = max(2, asked.k) + SPARE  # two tell whether a face is ambiguous; the rules may leave some out
    known = ReferenceVectors(behind.db, model=behind.still.model)
    subjects, references = await known.count(asked.wanted)
    fetch = AT_FIRST * k
    while subjects:
        answer = await behind.still.compare(vectors, asked.wanted.collection, k=min(fetch, MOST_CANDIDATES - SPARE))
        ids = sorted({one.subject_id for row in answer.candidates for one in row})
        left = await known.among(ids, asked.wanted)
        found = tuple(tuple(one for one in row if one.subject_id in left)[:k] for row in answer.candidates)
        if all(len(row) >= min(k, subjects) for row in found) or answer.shards_missing:
            return MatchAnswer(
                candidates=tuple(ranked(row) for row in found),
                generation=answer.generation,
                shards_missing=answer.shards_missing,
                references=references,
            )
        if references <= FEW_REFERENCES or fetch >= MOST_CANDIDATES:
            exact = await known.nearest(vectors, asked.wanted, k=k)
            return MatchAnswer(candidates=tuple(exact), generation=answer.generation, references=references)
        fetch *= FETCH_AGAIN
    return MatchAnswer(candidates=((),) * len(vectors), generation=0, references=0)


def fpir_of(request: web.Request, score: float, references: int) -> float:
    """Return the chance that a stranger reaches a score."""
    return services(request).policy.calibration.fpir(score, kind="single", gallery_size=references) if references else 0.0


def candidate_views(
    request: web.Request, candidates: tuple[Candidate, ...], threshold_of: Callable[[Candidate], float], references: int
) -> list[CandidateView]:
    """Return candidates as the API shows them, each with its own threshold."""
    fpir = partial(fpir_of, request, references=references)
    same = ("rank", "subject_id", "subject", "reference_id", "score")
    return [
        CandidateView(**{name: getattr(one, name) for name in same}, match=one.score >= threshold_of(one), fpir=fpir(one.score))
        for one in candidates
    ]
