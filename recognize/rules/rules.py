"""The rules in force: which threshold applies to whom, whose name is wrong for a face, and who has opted out. Pure and immutable.

Precedence: a request beats all; then subject, camera, watchlist (the strictest of those that list the subject), collection, deployment;
then the settings, by the model's calibration.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from core.types import F32, Candidate
from recognize.rules.target import Target
from recognize.threshold import ThresholdPolicy

Level = Literal["deployment", "collection", "watchlist", "camera", "subject"]
AppliedLevel = Literal["request", "subject", "camera", "watchlist", "collection", "deployment", "settings"]
LEVELS: tuple[Level, ...] = get_args(Level)
DEPLOYMENT_KEY = "default"
SAME_PERSON_FPIR = 0.01
"""A probe is the person of a wrong name's exemplar only if a stranger's would reach its score there this seldom."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a probe is asked for."""

    collection: str
    camera: str | None = None
    """None = no camera: a photo."""
    request: Target | None = None
    """Of the request itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What was looked up."""

    vector: F32
    """(D,) float32, L2 norm 1."""
    model: str
    references: int
    """That it was compared with."""
    agreement: float | None = None
    """Of a track's shots; None = a single face."""


@dataclass(frozen=True, slots=True)
class Looked:
    """A level that was looked at, and what it says."""

    level: AppliedLevel
    key: str
    target: Target | None
    """None = nothing is set there."""
    score: float | None
    """That the target means now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effective:
    """The threshold that applies, and why."""

    score: float
    applied: Looked
    looked: tuple[Looked, ...]
    """Every level, strongest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedOn:
    """A watchlist with a threshold of its own that lists a subject."""

    watchlist_id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """A probe's candidates with what the rules say of each."""

    candidates: tuple[Candidate, ...]
    """Those that the probe may be, best first."""
    threshold: float
    """For those without one of their own, and when there is nobody."""
    thresholds: Mapping[str, float]
    """Subject id -> score asked for, of each candidate."""
    rejected: Candidate | None
    """The best of those who reach their threshold, but were said to be somebody else before; or the best of all when nobody is left."""
    opted_out: frozenset[str]
    """Subject ids among the candidates."""
    weak_for: Mapping[str, tuple[str, ...]]
    """Subject id -> ids of watchlists whose own threshold the score does not reach."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """A snapshot. Thread rule: any thread."""

    targets: Mapping[tuple[Level, str], Target] = field(default_factory=dict)
    """(level, key) -> what is set there."""
    listed: Mapping[str, tuple[ListedOn, ...]] = field(default_factory=dict)
    """Subject id -> enabled watchlists that have a threshold and list it."""
    opted_out: frozenset[str] = frozenset()
    """Subject ids."""
    exemplars: Mapping[tuple[str, str], F32] = field(default_factory=dict, repr=False)
    """(subject id, model) -> (N, D) float32, unit rows: faces that are not this subject, whatever the score."""

    def effective(
        self, policy: ThresholdPolicy, scope: Scope, *, subject_id: str | None = None, references: int, agreement: float | None = None
    ) -> Effective:
        """Return the threshold that applies to a subject, or to anybody, with every level that was looked at.

        Args:
            policy: what targets mean.
            scope: collection, camera, and what the request asks for.
            subject_id: None = somebody of whom nothing special is known.
            references: that the probe is compared with.
            agreement: of a track's shots; None = a single face.
        """

        def look(level: AppliedLevel, key: str, target: Target | None) -> Looked:
            score = None if target is None else policy.score(target, references=references, agreement=agreement)
            return Looked(level, key, target, score)

        looked = [look("request", "", scope.request)]
        if subject_id is not None:
            looked.append(look("subject", subject_id, self.targets.get(("subject", subject_id))))
        if scope.camera is not None:
            looked.append(look("camera", scope.camera, self.targets.get(("camera", scope.camera))))
        lists = [look("watchlist", one.name, self.targets.get(("watchlist", one.name))) for one in self.listed.get(subject_id or "", ())]
        looked += sorted(lists, key=lambda one: -(one.score if one.score is not None else -2.0))
        looked.append(look("collection", scope.collection, self.targets.get(("collection", scope.collection))))
        looked.append(look("deployment", DEPLOYMENT_KEY, self.targets.get(("deployment", DEPLOYMENT_KEY))))
        looked.append(look("settings", "", policy.default))
        applied = next(one for one in looked if one.score is not None)
        assert applied.score is not None  # the settings always have one
        return Effective(score=applied.score, applied=applied, looked=tuple(looked))

    def weigh(self, policy: ThresholdPolicy, scope: Scope, probe: Probe, candidates: Sequence[Candidate]) -> Weighed:
        """Return what the rules make of a probe's candidates."""
        kept: list[Candidate] = []
        thresholds: dict[str, float] = {}
        weak: dict[str, tuple[str, ...]] = {}
        rejected: Candidate | None = None
        general = self.effective(policy, scope, references=probe.references, agreement=probe.agreement).score
        for one in candidates:
            bound = self._bound(policy, scope, probe, one.subject_id, general)
            if self._is_wrong(policy, probe, one):
                rejected = one if rejected is None and one.score >= bound else rejected
                continue
            kept.append(one)
            thresholds[one.subject_id] = bound
            if below := self._weak_for(policy, probe, one):
                weak[one.subject_id] = below
        if rejected is None and candidates and not kept:
            rejected = candidates[0]  # nobody is left: not because nobody is enrolled
        return Weighed(
            candidates=tuple(kept),
            threshold=general,
            thresholds=thresholds,
            rejected=rejected,
            opted_out=frozenset(one.subject_id for one in kept if one.subject_id in self.opted_out),
            weak_for=weak,
        )

    def _bound(self, policy: ThresholdPolicy, scope: Scope, probe: Probe, subject_id: str, general: float) -> float:
        if ("subject", subject_id) not in self.targets and subject_id not in self.listed:
            return general
        return self.effective(policy, scope, subject_id=subject_id, references=probe.references, agreement=probe.agreement).score

    def _is_wrong(self, policy: ThresholdPolicy, probe: Probe, candidate: Candidate) -> bool:
        """Tell whether a probe is a person of whom somebody said before that it is not this candidate.

        It is nearer to an exemplar than to the candidate's references, and so near that the calibration takes it for the same person.
        """
        known = self.exemplars.get((candidate.subject_id, probe.model))
        if known is None:
            return False
        nearest = float((known @ probe.vector).max())
        same = policy.score(Target(fpir=SAME_PERSON_FPIR), references=len(known), agreement=probe.agreement)
        return nearest > candidate.score and nearest >= same

    def _weak_for(self, policy: ThresholdPolicy, probe: Probe, candidate: Candidate) -> tuple[str, ...]:
        return tuple(
            one.watchlist_id
            for one in self.listed.get(candidate.subject_id, ())
            if candidate.score < policy.score(self.targets["watchlist", one.name], references=probe.references, agreement=probe.agreement)
        )


class Rulebook:
    """The rules as they are now. Thread rule: written and read on one event loop; a snapshot may go anywhere."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.now = rules or Rules()
        """Never changed, only replaced."""
