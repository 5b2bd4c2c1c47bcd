"""Rate limits: a rate with a burst, kept as one number."""


class Meter:
    """Allows ``burst`` events at once and ``rate_per_s`` for ever; more is a debt in seconds.

    Times are seconds of any clock that does not go back.
    """

    __slots__ = ("_cost_s", "_paid_until_s", "burst_s")

    def __init__(self, rate_per_s: float, burst: float) -> None:
        self._cost_s = 1 / rate_per_s
        self._paid_until_s = float("-inf")
        self.burst_s = burst * self._cost_s
        """Seconds that it takes to earn a burst."""

    def take(self, count: int, now_s: float) -> float:
        """Count events that happened; returns ``over_s`` after them."""
        self._paid_until_s = max(self._paid_until_s, now_s) + count * self._cost_s
        return self.over_s(now_s)

    def over_s(self, now_s: float) -> float:
        """Seconds until the rate is met again; 0 when it is."""
        return max(0.0, self._paid_until_s - now_s - self.burst_s)

    def idle(self, now_s: float) -> bool:
        """Whether it is as good as new."""
        return self._paid_until_s <= now_s
