"""Who should run which camera: fair shares with as few moves as possible. Pure; every ingester computes it alike and does its own part."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FEW_GIVEN = 4  # cameras that one ingester gives away at a time, at least: a camera that moves is dark for about a second
GIVEN_SHARE = 8  # and at most this part of what it runs, so that a newcomer opens streams at a bearable pace


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingester:
    """A live ingester, as the database shows it."""

    id: str
    load: int
    """Cameras it holds, of all regions."""
    regions: frozenset[str] = frozenset()
    """It runs these regions' cameras only; empty = all."""
    takes: bool = True
    """False: its sign of life is late, so it keeps what it has and is given nothing."""

    def serves(self, region: str) -> bool:
        """Return whether it may run a region's cameras."""
        return not self.regions or region in self.regions


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An enabled camera and who holds it."""

    region: str
    holder: str | None
    """Id of a live ingester; None = nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A camera that changes hands."""

    camera: str
    giver: str | None
    taker: str


def balance(ingesters: Sequence[Ingester], cameras: Mapping[str, Held]) -> tuple[Move, ...]:
    """Return the moves after which every camera that somebody serves has a holder, and shares are fair.

    Fair: no ingester holds two cameras more than another that could run one of them; where all serve all regions, loads differ by at
    most one. A fair state is left alone. Free cameras go to the least loaded. Ties go by id, cameras by name, so that the outcome
    depends on nothing but the arguments.

    Args:
        ingesters: the live ones, each id once.
        cameras: by name. One whose holder does not serve its region is left out of account: its holder gives it back by itself.
    """
    plan = _Plan(ingesters, cameras)
    plan.place_free()
    plan.level()
    return tuple(
        Move(camera=name, giver=cameras[name].holder, taker=holder)
        for name, holder in sorted(plan.holder.items())
        if holder != cameras[name].holder
    )


def gives(moves: Sequence[Move], me: Ingester) -> tuple[str, ...]:
    """Return which cameras an ingester gives away now: its part of the moves, a few at a time."""
    at_once = max(FEW_GIVEN, me.load // GIVEN_SHARE)
    return tuple(move.camera for move in moves if move.giver == me.id)[:at_once]


def takes(moves: Sequence[Move], me: Ingester) -> tuple[str, ...]:
    """Return which free cameras an ingester takes now: all that are its own, as they are dark."""
    return tuple(move.camera for move in moves if move.giver is None and move.taker == me.id)


class _Plan:
    """An assignment in the making."""

    def __init__(self, ingesters: Sequence[Ingester], cameras: Mapping[str, Held]) -> None:
        self._ingesters = {ingester.id: ingester for ingester in ingesters}
        self._load = {ingester.id: ingester.load for ingester in ingesters}
        self._free = sorted(name for name, held in cameras.items() if held.holder is None)
        self._region = {name: held.region for name, held in cameras.items()}
        self.holder = {name: held.holder for name, held in cameras.items() if held.holder is not None and self._movable(held)}
        self._of: dict[str, dict[str, list[str]]] = {ingester.id: {} for ingester in ingesters}
        for name, holder in sorted(self.holder.items()):
            self._of[holder].setdefault(self._region[name], []).append(name)

    def _movable(self, held: Held) -> bool:
        return held.holder in self._ingesters and self._ingesters[held.holder].serves(held.region)

    def place_free(self) -> None:
        """Give each free camera to the least loaded that serves it."""
        takers: dict[str, list[str]] = {}
        for name in self._free:
            region = self._region[name]
            if region not in takers:
                takers[region] = [i.id for i in self._ingesters.values() if i.takes and i.serves(region)]
            if takers[region]:
                self._put(name, min(takers[region], key=lambda taker: (self._load[taker], taker)))

    def level(self) -> None:
        """Move cameras one by one from the most to the least loaded. Ends: each move lowers the sum of the squared loads."""
        while (step := self._next()) is not None:
            giver, taker, region = step
            name = self._of[giver][region].pop()
            self._load[giver] -= 1
            self._put(name, taker)

    def _next(self) -> tuple[str, str, str] | None:
        givers = sorted(self._load, key=lambda ingester: (-self._load[ingester], ingester))
        takers = sorted((i.id for i in self._ingesters.values() if i.takes), key=lambda ingester: (self._load[ingester], ingester))
        for giver in givers:
            for taker in takers:
                if self._load[giver] - self._load[taker] < 2:
                    break
                for region in sorted(self._of[giver]):
                    if self._of[giver][region] and self._ingesters[taker].serves(region):
                        return giver, taker, region
        return None

    def _put(self, name: str, taker: str) -> None:
        self.holder[name] = taker
        self._load[taker] += 1
        self._of[taker].setdefault(self._region[name], []).append(name)
