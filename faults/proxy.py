"""A TCP proxy on loopback whose link can be made slow, silent, lossy or dead while connections run through it.

    with Proxy("127.0.0.1", 6379) as proxy:
        ...                            # clients connect to proxy.address
        proxy.drop_answers()           # Redis executes the commands, but no answer arrives
        proxy.let_pass()

This is our own code: Toxiproxy is a daemon in Go from another package manager (its Python packages are clients of it),
and we found no well-kept Python package that runs in the test's own process.

The proxy runs an event loop in a thread of its own. Any thread may call its methods. When a method returns, the new
rule holds for every byte that the proxy has not passed on yet. A rule applies to requests (client to server), answers,
or both, on all connections including later ones, until the next call for that direction.
"""

import asyncio
import contextlib
import random
import socket
import threading
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass
from enum import Enum, auto
from math import inf
from types import TracebackType
from typing import Any, Self

from faults.connection import LOOPBACK, Connection, Direction, bound_socket, flush

__all__ = ["CHUNK_BYTES", "LOOPBACK", "Direction", "Proxy"]

CHUNK_BYTES = 64 * 1024
"""The size of one read. About four times as much can wait for a slow reader in each direction of a connection."""
CALL_TIMEOUT_SEC = 10.0


class Kind(Enum):
    PASS = auto()
    DELAY = auto()
    HOLD = auto()
    SWALLOW = auto()
    CUT = auto()


@dataclass(frozen=True, eq=False)
class Rule:
    """What happens to the bytes of one direction. Compared by identity, so setting a rule again restarts its count."""

    kind: Kind = Kind.PASS
    delay_ms: float = 0
    jitter_ms: float = 0
    after_bytes: int = 0


class Proxy:
    """Listens from `start()` (or `with`) until `close()`, which leaves no thread and no socket behind.

    `listen_port` 0 chooses a free port. `seed` determines the jitter.
    """

    def __init__(self, target_host: str, target_port: int, *, listen_port: int = 0, seed: int = 0) -> None:
        self._target = (target_host, target_port)
        self._wanted_port = listen_port
        self._random = random.Random(seed)
        self._rules = {Direction.REQUESTS: Rule(), Direction.ANSWERS: Rule()}
        self._resets_new = False
        self._forgets_after_sec = inf
        self._connections: set[Connection] = set()
        self._changed = asyncio.Event()
        self._listener: socket.socket | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._thread: threading.Thread | None = None
        self.accepted = 0  # client connections in total
        self.passed_bytes: Counter[Direction] = Counter()
        self.swallowed_bytes: Counter[Direction] = Counter()

    # --- start and close ---

    def start(self) -> Self:
        # A bound socket that never listens reserves the port while the listener is closed.
        self._reserved = bound_socket(self._wanted_port)
        self.port: int = self._reserved.getsockname()[1]
        self.address = f"{LOOPBACK}:{self.port}"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{self.port}", daemon=True)
        self._thread.start()
        self._call(self._listen())
        return self

    def close(self) -> None:
        """Resets every connection and frees the port. May be called twice."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        thread.join(CALL_TIMEOUT_SEC)
        self._loop.close()
        self._reserved.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def connections(self) -> int:
        """The number of open client connections."""
        return len(self._connections)

    # --- rules ---

    def let_pass(self, direction: Direction = Direction.BOTH) -> None:
        """Restores the link, also after refuse() and reset().

        Held bytes move on. A connection that lost bytes is reset: TCP never delivers a gap, and a firewall that has
        forgotten a connection resets it too.
        """
        self._call(self._apply(Rule(), direction, listen=True))

    def delay(self, milliseconds: float, *, jitter_ms: float = 0, direction: Direction = Direction.BOTH) -> None:
        """Delays each chunk (at most CHUNK_BYTES) by this time and up to `jitter_ms` more, keeping the order."""
        self._call(self._apply(Rule(Kind.DELAY, delay_ms=milliseconds, jitter_ms=jitter_ms), direction))

    def hold(self, direction: Direction = Direction.BOTH) -> None:
        """Holds bytes back without loss, like a link that is down for a while and whose packets are sent again."""
        self._call(self._apply(Rule(Kind.HOLD), direction))

    def blackhole(self, direction: Direction = Direction.BOTH) -> None:
        """Drops bytes and ends of connections but keeps connections open. Accepts new ones and sends them nothing."""
        self._call(self._apply(Rule(Kind.SWALLOW), direction))

    def drop_answers(self) -> None:
        """Drops the answers: the server executes the requests, but the client gets no reply."""
        self.blackhole(Direction.ANSWERS)

    def cut_after(self, count: int, *, direction: Direction = Direction.ANSWERS) -> None:
        """Passes `count` more bytes on each connection, then resets it."""
        self._call(self._apply(Rule(Kind.CUT, after_bytes=count), direction))

    def refuse(self) -> None:
        """Closes the listener, so new connections are refused. Open ones continue."""
        self._call(self._close_listener())

    def reset(self, *, new: bool = True) -> None:
        """Sends RST to both ends of every connection; with `new` also to new ones, until let_pass()."""
        self._call(self._reset_all(new))

    def redirect_to(self, host: str, port: int) -> None:
        """Sends connections to another server from now on, as after a failover. Resets every open connection."""
        self._target = (host, port)
        self._call(self._reset_all(self._resets_new))

    def redirect_new_to(self, host: str, port: int) -> None:
        """Sends new connections to another server, as a name that has moved does. Open ones stay."""
        self._target = (host, port)

    def forget_silent(self, after_sec: float) -> None:
        """Drops all bytes of a connection, without a word, once nothing has passed on it for so long: as a balancer or
        a firewall that has forgotten it."""
        self._forgets_after_sec = after_sec

    # --- in the loop's thread ---

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_TIMEOUT_SEC)

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = bound_socket(self.port)
            self._listener.setblocking(False)
            self._listener.listen(1024)
            self._loop.add_reader(self._listener, self._accept, self._listener)

    async def _close_listener(self) -> None:
        # An asyncio.Server that is closed while it accepts would leave a connection open without serving it.
        listener, self._listener = self._listener, None
        if listener is not None:
            self._loop.remove_reader(listener)
            listener.close()

    async def _apply(self, rule: Rule, direction: Direction, *, listen: bool = False) -> None:
        for one in (Direction.REQUESTS, Direction.ANSWERS):
            if one in direction:
                self._rules[one] = rule
        for connection in list(self._connections):
            if any(self._rules[lost].kind is not Kind.SWALLOW for lost in connection.lost):
                connection.reset()
        if listen:
            self._resets_new = False
            await self._listen()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _reset_all(self, new: bool) -> None:
        self._resets_new = new
        for connection in list(self._connections):
            connection.reset()

    async def _end(self) -> None:
        await self._close_listener()
        await self._reset_all(new=True)
        serving = list(self._serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            client, _ = listener.accept()
            self.accepted += 1
            task = self._loop.create_task(self._serve(client))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
            task.add_done_callback(lambda done: client.close() if done.cancelled() else None)  # before it began

    async def _serve(self, client: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=client, limit=CHUNK_BYTES)
        connection = Connection(writer)
        self._connections.add(connection)
        try:
            if self._resets_new:
                connection.reset()
                return
            server_reader, server_writer = await asyncio.open_connection(*self._target, limit=CHUNK_BYTES)
            connection.writers.append(server_writer)
            connection.carrying = asyncio.gather(
                self._carry(Direction.REQUESTS, reader, server_writer, connection),
                self._carry(Direction.ANSWERS, server_reader, writer, connection),
            )
            await connection.carrying
        except (OSError, asyncio.CancelledError):  # one end is gone, or the target does not listen: end both
            connection.reset()
        finally:
            self._connections.discard(connection)
            await connection.close()

    async def _carry(
        self,
        direction: Direction,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        connection: Connection,
    ) -> None:
        """Carries one direction of a connection until its end."""
        writer.transport.set_write_buffer_limits(high=CHUNK_BYTES)
        passed: Counter[Rule] = Counter()
        while True:
            chunk = await reader.read(CHUNK_BYTES)
            if connection.is_forgotten(self._forgets_after_sec):
                self.swallowed_bytes[direction] += len(chunk)
                if not chunk:
                    return
                continue
            rule = await self._rule_to_act_on(direction, chunk)
            if rule.kind is Kind.SWALLOW and chunk:
                connection.lost |= {direction}
                self.swallowed_bytes[direction] += len(chunk)
                continue
            if rule.kind is Kind.CUT and len(chunk) > rule.after_bytes - passed[rule]:
                rest = chunk[: rule.after_bytes - passed[rule]]
                self.passed_bytes[direction] += len(rest)
                writer.write(rest)
                await flush(writer)
                connection.reset()
                return
            if not chunk:
                writer.write_eof()
                return
            passed[rule] += len(chunk)
            self.passed_bytes[direction] += len(chunk)
            writer.write(chunk)
            await writer.drain()  # back-pressure: a slow reader stops the sender

    async def _rule_to_act_on(self, direction: Direction, chunk: bytes) -> Rule:
        """Waits for the rule's delay. Under HOLD, and at an end of input under SWALLOW, waits for another rule."""
        while True:
            rule, changed = self._rules[direction], self._changed
            if rule.kind is Kind.DELAY:
                await asyncio.sleep((rule.delay_ms + self._random.uniform(0, rule.jitter_ms)) / 1000)
                if self._rules[direction].kind in (Kind.PASS, Kind.DELAY):
                    return rule
            elif rule.kind is Kind.HOLD or (rule.kind is Kind.SWALLOW and not chunk):
                await changed.wait()
            else:
                return rule
