"""How long to wait before the next try."""

import random


class Backoff:
    """Delays in seconds that double from `first` to `cap`, each spread over half of itself."""

    def __init__(self, *, first_sec: float, cap_sec: float) -> None:
        self._first_sec = first_sec
        self._cap_sec = cap_sec
        self._delay_sec = first_sec

    def next_delay_sec(self) -> float:
        delay = self._delay_sec
        self._delay_sec = min(2 * delay, self._cap_sec)
        return random.uniform(delay / 2, delay)

    def reset(self) -> None:
        self._delay_sec = self._first_sec
