"""What was seen, held against the script: names right, strangers unnamed, every frame accounted for. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import hypot
from typing import Literal

from cli.demo.script import CameraScript, Visit
from core.schema import Sighting

REACH_FACES = 1.0  # a box belongs to the scripted person whose face is nearest, within this many face heights
SLACK_S = 0.3  # capture times against script times

Verdict = Literal["named", "left unnamed", "wrongly named", "not named", "not seen"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What became of one camera's frames."""

    camera: str
    decoded: int
    published: int
    finished: int
    dead_lettered: int
    dropped: int

    @property
    def balanced(self) -> bool:
        """Whether every published frame was finished or put aside."""
        return self.published == self.finished + self.dead_lettered


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One scripted visit and what the platform made of it."""

    camera: str
    person: str
    known: bool
    verdict: Verdict
    score: float | None
    """The best score of its sightings."""
    names: tuple[str, ...]
    """Every name it was given."""
    sightings: int

    @property
    def right(self) -> bool:
        """Whether a known person was named, and a stranger was seen but not named."""
        return self.verdict == ("named" if self.known else "left unnamed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Showing:
    """What was noticed while the footage played."""

    started_s: Mapping[str, float]
    """Unix time of each camera's first frame."""
    late_s: float = 0.0
    """By how much a busy machine played it slower than it is."""
    accounts: Sequence[Account]
    """One for each camera."""
    latencies_ms: Sequence[float]
    """Capture to decision of each sighting's first answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The outcome of one showing."""

    findings: tuple[Finding, ...]
    stray_names: tuple[str, ...]
    """Names given where the script has nobody."""
    accounts: tuple[Account, ...]
    latency_p50_ms: float | None
    """Capture to decision, over all sightings of the showing."""
    latency_p95_ms: float | None

    @property
    def right(self) -> bool:
        """Whether the demo has shown what it promises."""
        seen = all(finding.right for finding in self.findings)
        return seen and not self.stray_names and all(account.balanced and account.published for account in self.accounts)


def summarize(scripts: Sequence[CameraScript], sightings: Sequence[Sighting], showing: Showing) -> Summary:
    """Hold a showing against its script.

    Args:
        scripts: what was played, cut to the footage's length.
        sightings: the last revision of each sighting, with its path.
        showing: when it was played, and what it cost.
    """
    findings: list[Finding] = []
    strays: list[str] = []
    for script in scripts:
        of_visit: dict[Visit, list[Sighting]] = {visit: [] for visit in script.visits}
        for sighting in sightings:
            if sighting.camera != script.camera:
                continue
            visit = whose(script, sighting, showing.started_s.get(script.camera, 0.0), late_s=showing.late_s)
            if visit is not None:
                of_visit[visit].append(sighting)
            elif sighting.subject is not None and sighting.outcome == "subject":
                strays.append(sighting.subject)
        findings += [_finding(script.camera, visit, seen) for visit, seen in of_visit.items()]
    ordered = sorted(showing.latencies_ms)
    return Summary(
        findings=tuple(findings),
        stray_names=tuple(strays),
        accounts=tuple(showing.accounts),
        latency_p50_ms=_percentile(ordered, 0.50),
        latency_p95_ms=_percentile(ordered, 0.95),
    )


def whose(script: CameraScript, sighting: Sighting, started_s: float, *, late_s: float = 0.0) -> Visit | None:
    """Return the scripted visit that a sighting's path follows, by the vote of its points; None where the script has nobody."""
    votes: Counter[Visit] = Counter()
    shifts_s = [0.0, -SLACK_S, SLACK_S, *(-SLACK_S * n for n in range(2, 2 + int(late_s / SLACK_S)))]
    for point in sighting.path:
        x_px, y_px = (point.x1 + point.x2) / 2, (point.y1 + point.y2) / 2
        t_s = point.t_s - started_s
        near = _nearest(script, [t_s + shift_s for shift_s in shifts_s], x_px, y_px)
        if near is not None:
            votes[near] += 1
    return votes.most_common(1)[0][0] if votes else None


def _nearest(script: CameraScript, times_s: Sequence[float], x_px: float, y_px: float) -> Visit | None:
    """Return who is nearest to a point at the first of the times at which anybody is near it."""
    for t_s in times_s:
        near = [(hypot(stop.x_px - x_px, stop.y_px - y_px) / stop.height_px, visit) for visit, stop in script.whereabouts(t_s)]
        reach, visit = min(near, key=lambda pair: pair[0], default=(REACH_FACES, None))
        if reach < REACH_FACES:
            return visit
    return None


def _finding(camera: str, visit: Visit, sightings: Sequence[Sighting]) -> Finding:
    names = tuple(sorted({s.subject for s in sightings if s.outcome == "subject" and s.subject is not None}))
    scores = [s.score for s in sightings if s.score is not None]
    return Finding(
        camera=camera,
        person=visit.person,
        known=visit.known,
        verdict=_verdict(visit, names, seen=bool(sightings)),
        score=max(scores) if scores else None,
        names=names,
        sightings=len(sightings),
    )


def _verdict(visit: Visit, names: tuple[str, ...], *, seen: bool) -> Verdict:
    if not seen:
        return "not seen"
    if not names:
        return "not named" if visit.known else "left unnamed"
    return "named" if visit.known and names == (visit.person,) else "wrongly named"


def _percentile(ordered: Sequence[float], share: float) -> float | None:
    """Return the nearest-rank percentile of sorted values."""
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, max(0, -(-int(len(ordered) * share * 1000) // 1000) - 1))]
