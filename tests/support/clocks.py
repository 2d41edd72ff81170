"""A clock that stands still until somebody moves it, and an event whose waiting moves it."""

import threading


class Clock:
    """Call it for the time, in seconds."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class SteppedEvent(threading.Event):
    """Nobody waits: the clock moves on by what would have been waited."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        self._clock.advance(max(timeout or 0.0, 0.001))  # as real waiting, it always takes some time
        return self.is_set()
