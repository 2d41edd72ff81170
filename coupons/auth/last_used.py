"""When each API key was used last, written to PostgreSQL by a thread of its own, a minute late. No request waits."""

import logging
import threading
import time
from datetime import UTC, datetime

from django.conf import settings
from django.db import connection
from django.db.models import Q

from coupons.errors import DATABASE_DOWN
from coupons.models import ApiKey
from coupons.runtime.db_timeouts import answers_within
from coupons.runtime.process_local import ProcessLocal

logger = logging.getLogger(__name__)


class LastUsed:
    """`note` is cheap; what could not be written is tried again with the next minute's."""

    def __init__(self) -> None:
        self._uses: dict[int, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write_lazily, name="api-keys-last-used", daemon=True)
        self._thread.start()

    def note(self, key_id: int) -> None:
        self._uses[key_id] = time.time()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def _write_lazily(self) -> None:
        while not self._stop.wait(settings.API_KEYS_USE_SEC):
            self._write()
        self._write()
        connection.close()

    def _write(self) -> None:
        for key_id, used_at in self._uses.copy().items():
            at = datetime.fromtimestamp(used_at, UTC)
            older = Q(last_used_at__isnull=True) | Q(last_used_at__lt=at)
            try:
                with answers_within(settings.BACKGROUND_ANSWER_TIMEOUT_MS / 1000):
                    ApiKey.objects.filter(older, pk=key_id).update(last_used_at=at)
            except DATABASE_DOWN as error:
                logger.warning("api_keys.use_not_written error=%s", " ".join(str(error).split()))
                connection.close()
                return
            if self._uses.get(key_id) == used_at:  # not used again meanwhile
                self._uses.pop(key_id, None)


last_used: ProcessLocal[LastUsed] = ProcessLocal(LastUsed, close=LastUsed.close)
