"""Clients that take their time: each holds a connection for as long as it is let."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterable

STEP_SEC = 0.2


class SlowClient:
    """Sends a byte, waits, and sends the next, until the server hangs up; then `cut` is true."""

    def __init__(self, connect: Callable[[], socket.socket], data: Iterable[int]) -> None:
        self._socket = connect()
        self._data = data
        self._end = threading.Event()
        self.cut = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._end.set()
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        self._socket.settimeout(STEP_SEC)
        with contextlib.suppress(OSError):  # a reset is a cut as well
            for byte in self._data:
                if self._end.is_set():
                    return
                self._socket.sendall(bytes([byte]))
                if self._hangs_up():
                    break
        self.cut = True

    def _hangs_up(self) -> bool:
        """Waits a step for an end, whatever is said before it."""
        try:
            while self._socket.recv(4096):
                pass
        except TimeoutError:
            return False
        return True
