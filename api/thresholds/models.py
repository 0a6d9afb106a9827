"""Bodies and queries of thresholds."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import ConfigDict, Field

from api.errors import UnprocessableError
from api.models import Answer, Limit, Name, Query
from recognize.rules.rules import AppliedLevel, Level, Looked
from recognize.rules.store import Threshold
from recognize.rules.target import Target

SMALLEST_RATE = 1e-12  # rarer than any material shows; below it the arithmetic ends

Score = Annotated[float | None, Field(ge=-1, le=1, description="Cosine from which on somebody is named.")]
Far = Annotated[
    float | None, Field(ge=SMALLEST_RATE, lt=1, description="Chance that one comparison of two different people reaches the score.")
]
Fpir = Annotated[float | None, Field(ge=SMALLEST_RATE, lt=1, description="Chance that a stranger is named at all, by the whole gallery.")]
Kind = Literal["single", "track"]


def target_of(score: float | None, far: float | None, fpir: float | None) -> Target | None:
    """Return what is asked for; None when nothing is. Raises UnprocessableError: two at once."""
    given = sum(value is not None for value in (score, far, fpir))
    if given > 1:
        raise UnprocessableError("score, far, fpir: give one of them")
    return Target(score=score, far=far, fpir=fpir) if given else None


class ThresholdBody(Query):
    """What a name must reach: exactly one of `score`, `far` and `fpir`."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": [{"fpir": 0.001}, {"score": 0.62}]})

    score: Score = None
    far: Far = None
    fpir: Fpir = None

    def target(self) -> Target:
        """Return what is asked for. Raises UnprocessableError: not exactly one."""
        target = target_of(self.score, self.far, self.fpir)
        if target is None:
            raise UnprocessableError("score, far, fpir: give one of them")
        return target


class Meaning(Answer):
    """What a threshold means now."""

    kind: Kind = Field(description="`single`: one face. `track`: a face over time, its varied shots fused, which asks for more.")
    score: float = Field(description="Cosine from which on somebody is named.")
    far: float = Field(description="Chance that one comparison of two different people reaches it.")
    fpir: float = Field(description="Chance that a stranger reaches it with anybody of the gallery.")


class ThresholdView(Answer):
    """A threshold that is set."""

    level: Level
    key: str = Field(description="`default`, the name of a collection, watchlist or camera, or a subject's id.")
    score: float | None
    far: float | None
    fpir: float | None
    version: int
    updated_by: str
    updated_at: datetime

    @classmethod
    def of(cls, threshold: Threshold) -> "ThresholdView":
        """Return a threshold as the API shows it."""
        target = threshold.target
        same = {name: getattr(threshold, name) for name in ("level", "key", "version", "updated_by", "updated_at")}
        return cls(**same, score=target.score, far=target.far, fpir=target.fpir)


class ThresholdAnswer(ThresholdView):
    """A threshold with what it means now."""

    model: str = Field(description="Embedding model whose calibration says what scores mean.")
    collection: str = Field(description="The gallery whose size counts.")
    references: int = Field(description="References in it.")
    now: list[Meaning]
    warning: str | None = Field(description="What this threshold does to strangers, in words, where that is not what anybody wants.")


class ThresholdQuery(Query):
    """Which thresholds."""

    level: Level | None = None
    limit: Limit = 50
    cursor: Annotated[
        str | None,
        Field(
            pattern=r"^(deployment|collection|watchlist|camera|subject)/[A-Za-z0-9._-]{1,64}$",
            description="`next_cursor` of the page before.",
        ),
    ] = None


class ThresholdPage(Answer):
    """Thresholds by level, then key."""

    thresholds: list[ThresholdView]
    next_cursor: str | None


class EffectiveQuery(Query):
    """Whom, where and how it is asked for."""

    collection: Name | None = None
    camera: Name | None = None
    subject_id: UUID | None = None
    kind: Kind = "single"
    score: Annotated[Score, Field(description="As a request would ask for it.")] = None
    far: Annotated[Far, Field(description="As a request would ask for it.")] = None
    fpir: Annotated[Fpir, Field(description="As a request would ask for it.")] = None


class LookedView(Answer):
    """A level that was looked at."""

    level: AppliedLevel
    key: str
    score: float | None = Field(description="As it is set; all three are null where nothing is set.")
    far: float | None
    fpir: float | None
    means: float | None = Field(description="The score that it means now.")
    applies: bool

    @classmethod
    def of(cls, looked: Looked, *, applies: bool) -> "LookedView":
        """Return a level as the API shows it."""
        target = looked.target
        return cls(
            level=looked.level,
            key=looked.key,
            score=target and target.score,
            far=target and target.far,
            fpir=target and target.fpir,
            means=looked.score,
            applies=applies,
        )


class EffectiveAnswer(Answer):
    """The threshold that applies, and why."""

    model: str
    kind: Kind
    collection: str
    references: int = Field(description="References in the collection.")
    level: AppliedLevel = Field(description="Which level applies.")
    score: float = Field(description="Cosine from which on somebody is named.")
    far: float = Field(description="Chance that one comparison of two different people reaches it.")
    fpir: float = Field(description="Chance that a stranger reaches it with anybody of the gallery.")
    warning: str | None
    looked: list[LookedView] = Field(description="Every level that was looked at, strongest first.")
