"""When a failed event is tried again."""

import random

from django.conf import settings

MAX_DELAY_SEC = 6 * 3600


def retry_delay_sec(attempts: int) -> float:
    """Doubles with each attempt up to 6 hours, spread over half of itself: a crowd must not come back as one."""
    delay = min(settings.RETRY_BASE_DELAY_SEC * 2**attempts, MAX_DELAY_SEC)
    return random.uniform(delay / 2, delay)
