"""Deadlines of many connections, looked at one second at a time."""

import math
from collections import defaultdict
from typing import Generic, Protocol, TypeVar


class Timed(Protocol):
    """Something with a deadline that may move; infinite for none."""

    deadline_s: float


T = TypeVar("T", bound=Timed)
_LONGEST_LOOK_S = 3600.0  # an infinite deadline has no second


class Wheel(Generic[T]):
    """Buckets by second. Moving a deadline away costs nothing: an item is looked at again when its bucket is due. An
    item whose deadline moves nearer is added again."""

    def __init__(self) -> None:
        self._buckets: defaultdict[int, set[T]] = defaultdict(set)
        self._places: dict[T, int] = {}

    def add(self, item: T, now_s: float) -> None:
        """Watch ``item``, from now on by its present deadline."""
        self.remove(item)
        place = math.ceil(min(item.deadline_s, now_s + _LONGEST_LOOK_S))
        self._places[item] = place
        self._buckets[place].add(item)

    def remove(self, item: T) -> None:
        """Stop watching."""
        place = self._places.pop(item, None)
        if place is not None:
            self._buckets[place].discard(item)
            if not self._buckets[place]:
                del self._buckets[place]

    def due(self, now_s: float) -> list[T]:
        """Items whose deadline has passed; they are no longer watched."""
        over = []
        for place in [place for place in self._buckets if place <= now_s]:
            for item in list(self._buckets[place]):
                if item.deadline_s <= now_s:
                    self.remove(item)
                    over.append(item)
                else:
                    self.add(item, now_s)
        return over
