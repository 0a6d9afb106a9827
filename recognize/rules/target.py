"""What is asked of a score: a score itself, or how rarely a stranger may reach it. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Exactly one of the three."""

    score: float | None = None
    """Cosine, -1..1."""
    far: float | None = None
    """Chance that one comparison of two different people reaches the score, 0..1."""
    fpir: float | None = None
    """Chance that a stranger's best score in the whole gallery reaches it, 0..1."""

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.score, self.far, self.fpir)) != 1:
            raise ValueError(f"target: expected exactly one of score, far and fpir, got {self}")
        if self.score is not None and not -1 <= self.score <= 1:
            raise ValueError(f"target: expected a score from -1 to 1, got {self.score}")
        for name, rate in (("far", self.far), ("fpir", self.fpir)):
            if rate is not None and not 0 < rate < 1:
                raise ValueError(f"target: expected 0 < {name} < 1, got {rate}")
