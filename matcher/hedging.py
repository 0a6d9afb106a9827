"""When to ask a second replica, and how often that is allowed. Pure."""

import math
from collections import deque

HEDGE_SHARE = 0.05  # of the questions: what lies beyond the p95, and no more when a whole shard is slow
HEDGE_BURST = 32  # two replicas' prefetch: all that a frozen replica can hold
SAMPLES = 128
FEW = 20  # below, a p95 says nothing
EVERY = 16  # samples after which the p95 is computed anew


class Latency:
    """How long one shard takes to answer, over its last answers."""

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=SAMPLES)
        self._new = 0
        self._p95_s: float | None = None

    def add(self, seconds: float) -> None:
        """Take one answer's time into account."""
        self._samples.append(seconds)
        self._new += 1
        if len(self._samples) >= FEW and (self._p95_s is None or self._new >= EVERY):
            self._new = 0
            self._p95_s = sorted(self._samples)[math.ceil(0.95 * len(self._samples)) - 1]

    @property
    def p95_s(self) -> float | None:
        """The time within which 95 % of the last answers came; None while there are too few."""
        return self._p95_s


class HedgeBudget:
    """Tokens: every question earns a share of one, a hedge costs one. So hedges never multiply an overload."""

    def __init__(self, *, share: float = HEDGE_SHARE, burst: float = HEDGE_BURST) -> None:
        self._share = share
        self._burst = burst
        self._tokens = burst

    def earn(self, questions: int) -> None:
        """Count questions asked, one for each shard of a batch."""
        self._tokens = min(self._burst, self._tokens + self._share * questions)

    def spend(self) -> bool:
        """Take a token for one hedge; False when there is none."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
