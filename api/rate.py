"""How often somebody may ask: a token bucket each."""

from __future__ import annotations

import time

_MOST_KNOWN = 10_000


class Rate:
    """Buckets of `burst` tokens that fill at `per_s`; used from one thread."""

    def __init__(self, per_s: float, burst: int) -> None:
        self._per_s = per_s
        self._burst = burst
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, who: str) -> float:
        """Take a token; returns 0, or the seconds until there will be one."""
        now = time.monotonic()
        tokens, since = self._buckets.get(who, (float(self._burst), now))
        tokens = min(float(self._burst), tokens + (now - since) * self._per_s)
        if tokens < 1.0:
            self._buckets[who] = (tokens, now)
            return (1.0 - tokens) / self._per_s
        self._buckets[who] = (tokens - 1.0, now)
        if len(self._buckets) > _MOST_KNOWN:
            # Whose bucket is full again is as good as unknown.
            full_s = self._burst / self._per_s
            self._buckets = {
                name: bucket for name, bucket in self._buckets.items() if now - bucket[1] < full_s
            }
        return 0.0
