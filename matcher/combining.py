"""Questions of several askers travel as one: what asks the same of the same gallery is put together, and its answer split again. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from core.types import F32

W = TypeVar("W")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What probes must have in common to be searched in one call."""

    model: str
    collection: str
    k: int
    dimensions: int


@dataclass(slots=True)
class Together(Generic[W]):
    """Probes of several askers, in one array."""

    question: Question
    parts: list[tuple[F32, W]] = field(default_factory=list)
    """Each asker's probes (N, D), and who asks."""
    count: int = 0
    """Probes in all parts."""

    def fits(self, probes: F32, limit: int) -> bool:
        """Return whether these probes may join."""
        return self.count + len(probes) <= limit

    def join(self, probes: F32, asker: W) -> None:
        """Add an asker's probes."""
        self.parts.append((probes, asker))
        self.count += len(probes)

    @property
    def probes(self) -> F32:
        """All probes, (count, D), in the order of the askers."""
        return self.parts[0][0] if len(self.parts) == 1 else np.concatenate([probes for probes, _ in self.parts])

    def split(self, rows: Sequence[R]) -> list[tuple[W, Sequence[R]]]:
        """Return for each asker its share of rows, of which there is one per probe."""
        shares: list[tuple[W, Sequence[R]]] = []
        start = 0
        for probes, asker in self.parts:
            shares.append((asker, rows[start : start + len(probes)]))
            start += len(probes)
        return shares
