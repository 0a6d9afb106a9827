"""Which shards are worth waiting for: a shard that stays silent is asked on, but no longer waited for. Pure: times are passed in."""

from collections.abc import Collection
from dataclasses import dataclass

from core.topology import ShardId
from matcher.gathering import ALL_BUCKETS, covered_by, layout, missing_from

SILENT_BATCHES = 3  # one lost message is chance, three in a row are not


@dataclass(slots=True)
class _Shard:
    newest_s: float
    """When the newest batch was asked that tells something good: the shard, or for a start one of its layout, answered it."""
    heard: bool = False
    silent: int = 0
    """Batches after ``newest_s`` whose deadline passed without an answer."""


class Breaker:
    """Learns the layouts from answers, and which of their shards are silent. Times are seconds of any one clock."""

    def __init__(self, silent_batches: int = SILENT_BATCHES) -> None:
        self._limit = silent_batches
        self._shards: dict[ShardId, _Shard] = {}

    def answered(self, shard: ShardId, asked_s: float) -> None:
        """Take note that a shard answered a batch that was asked at asked_s, in time or late: it is waited for again."""
        if shard not in self._shards:
            for sibling in layout(shard.shards_total):
                self._shards.setdefault(sibling, _Shard(newest_s=asked_s))
        state = self._shards[shard]
        state.heard, state.silent, state.newest_s = True, 0, max(state.newest_s, asked_s)

    def silent(self, shard: ShardId, asked_s: float) -> None:
        """Take note that the deadline of a batch asked at asked_s passed without a known shard's answer.

        Changes nothing when the shard has answered a later batch, or is unknown. A layout whose shards are all silent is forgotten
        once others hold the whole gallery: it was replaced.
        """
        state = self._shards.get(shard)
        if state is None or asked_s <= state.newest_s:
            return
        state.silent += 1
        if state.silent == self._limit:
            self._forget(shard.shards_total)

    def is_open(self, shard: ShardId) -> bool:
        """Return whether a known shard is no longer waited for."""
        state = self._shards.get(shard)
        return state is not None and state.silent >= self._limit

    @property
    def known(self) -> Collection[ShardId]:
        """Every shard of every layout that was seen."""
        return self._shards.keys()

    @property
    def expected(self) -> list[ShardId]:
        """The shards that are waited for."""
        return [shard for shard, state in self._shards.items() if state.silent < self._limit]

    @property
    def missing(self) -> int:
        """How many shards of the best layout were silent at the last look; 0 when every bucket is answered for, or nothing is known."""
        sound = [shard for shard, state in self._shards.items() if state.heard and not state.silent]
        if sound:
            return len(missing_from(sound))
        return min((shard.shards_total for shard in self._shards), default=0)

    def _forget(self, shards_total: int) -> None:
        if all(self.is_open(shard) for shard in layout(shards_total)) and covered_by(self.expected) == ALL_BUCKETS:
            for shard in layout(shards_total):
                del self._shards[shard]
