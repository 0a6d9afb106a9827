"""Token buckets: how often somebody may ask. Pure; time enters as ``now_s``."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

MOST_BUCKETS: Final = 20_000  # about 4 MB; beyond it the longest unused is forgotten


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether it was allowed, and how it stands."""

    allowed: bool
    limit: int
    """Requests a bucket holds when full."""
    left: int
    retry_s: float
    """Until the next one is allowed; 0 when it is now."""
    full_s: float
    """Until the bucket is full again."""


class Buckets:
    """A bucket for each name, made when first used, full at first. Thread rule: one event loop."""

    def __init__(self, *, most: int = MOST_BUCKETS) -> None:
        self._most = most
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, name: str, *, per_s: float, burst: int, now_s: float, cost: int = 1) -> Verdict:
        """Take ``cost`` tokens, or none when so many are not there.

        Args:
            name: whose bucket.
            per_s: tokens that come back each second.
            burst: tokens in a full bucket.
            now_s: monotonic seconds.
            cost: 0 looks without taking: allowed means that one could be taken.
        """
        tokens, at_s = self._buckets.get(name, (float(burst), now_s))
        tokens = min(float(burst), tokens + max(0.0, now_s - at_s) * per_s)
        needed = max(1, cost)
        allowed = tokens >= needed
        if allowed:
            tokens -= cost
        if cost:
            self._buckets[name] = (tokens, now_s)
            self._buckets.move_to_end(name)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        return Verdict(allowed, burst, int(tokens), 0.0 if allowed else (needed - tokens) / per_s, (burst - tokens) / per_s)
