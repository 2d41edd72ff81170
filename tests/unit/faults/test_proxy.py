"""The proxy of the fault tests, in front of a small server that sends back what it gets."""

import contextlib
import os
import random
import select
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from faults.proxy import CHUNK_BYTES, LOOPBACK, Direction, Proxy
from tests.support.waiting import wait_until

SILENCE_SEC = 0.2


class EchoServer(socketserver.ThreadingTCPServer):
    """`received` is all that came, of all connections."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 1024

    def __init__(self) -> None:
        super().__init__((LOOPBACK, 0), EchoHandler)
        self.received = 0
        self.port = int(self.server_address[1])
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def close(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class EchoHandler(socketserver.BaseRequestHandler):
    server: EchoServer

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while chunk := self.request.recv(CHUNK_BYTES):
                self.server.received += len(chunk)
                self.request.sendall(chunk)


@pytest.fixture
def server() -> Iterator[EchoServer]:
    made = EchoServer()
    yield made
    made.close()


@pytest.fixture
def proxy(server: EchoServer) -> Iterator[Proxy]:
    with Proxy(LOOPBACK, server.port) as made:
        yield made


def client(proxy: Proxy) -> socket.socket:
    return socket.create_connection((LOOPBACK, proxy.port), timeout=10)


def echo(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    return read(connection, len(data))


def read(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (chunk := connection.recv(count - len(data))):
        data += chunk
    return data


def is_silent(connection: socket.socket) -> bool:
    """Nothing comes, neither bytes nor an end."""
    connection.settimeout(SILENCE_SEC)
    try:
        connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(10)
    return False


def test_bytes_and_ends_of_connections_go_through(proxy: Proxy, server: EchoServer) -> None:
    with client(proxy) as connection:
        assert proxy.address == f"{LOOPBACK}:{proxy.port}"
        assert echo(connection, b"hello") == b"hello"
        connection.sendall(b"bye")
        connection.shutdown(socket.SHUT_WR)
        assert read(connection, 1_000) == b"bye", "the answer comes although no request can follow"
    assert server.received == 8
    assert proxy.passed_bytes == {Direction.REQUESTS: 8, Direction.ANSWERS: 8}
    wait_until(lambda: proxy.connections == 0)
    assert proxy.accepted == 1


def test_many_connections_at_once_each_get_their_own_bytes(proxy: Proxy) -> None:
    def exchange(number: int) -> bool:
        data = random.Random(number).randbytes(50_000)
        with client(proxy) as connection:
            return all(echo(connection, data[start : start + 10_000]) for start in range(0, 50_000, 10_000)) and (
                echo(connection, data) == data
            )

    with ThreadPoolExecutor(50) as pool:
        assert all(pool.map(exchange, range(300)))
    assert proxy.accepted == 300
    wait_until(lambda: proxy.connections == 0)


def test_a_seeded_delay_applies_in_each_direction(server: EchoServer) -> None:
    jitter = random.Random(7)
    at_least_sec = sum(10 + jitter.uniform(0, 20) for _ in range(20)) / 1000
    with Proxy(LOOPBACK, server.port, seed=7) as proxy, client(proxy) as connection:
        proxy.delay(10, jitter_ms=20)
        started = time.monotonic()
        for number in range(10):
            assert echo(connection, b"%d" % number) == b"%d" % number
        assert time.monotonic() - started >= at_least_sec > 0.2


def test_a_delay_of_one_direction_keeps_order_and_bytes(proxy: Proxy) -> None:
    data = random.Random(1).randbytes(300_000)
    proxy.delay(5, direction=Direction.ANSWERS)
    with client(proxy) as connection, ThreadPoolExecutor(1) as pool:
        sent = pool.submit(connection.sendall, data)
        assert read(connection, len(data)) == data
        sent.result()


def test_what_is_held_waits_and_comes_later(proxy: Proxy, server: EchoServer) -> None:
    with client(proxy) as connection:
        assert echo(connection, b"before") == b"before"
        proxy.hold()
        connection.sendall(b"during")
        assert is_silent(connection)
        assert server.received == 6
        proxy.let_pass()
        assert read(connection, 6) == b"during"


def test_a_black_hole_swallows_keeps_connections_and_takes_new_ones(proxy: Proxy, server: EchoServer) -> None:
    with client(proxy) as old, client(proxy) as idle:
        assert echo(old, b"before") == b"before"
        assert echo(idle, b"before") == b"before"
        proxy.blackhole()
        with client(proxy) as new:
            for number, connection in enumerate((old, new), start=1):
                connection.sendall(b"during")
                swallowed = {Direction.REQUESTS: number * 6}
                wait_until(lambda swallowed=swallowed: proxy.swallowed_bytes == swallowed, what="it is swallowed")  # type: ignore[misc]
                assert is_silent(connection)
            assert server.received == 12
            assert proxy.connections == 3

            proxy.let_pass()

            for connection in (old, new):
                with pytest.raises(ConnectionResetError):
                    connection.recv(1)
        assert echo(idle, b"after") == b"after", "it lost nothing"
    with client(proxy) as connection:
        assert echo(connection, b"after") == b"after"


def test_an_end_in_a_black_hole_arrives_afterwards(proxy: Proxy) -> None:
    with client(proxy) as connection:
        assert echo(connection, b"before") == b"before"
        proxy.blackhole(Direction.REQUESTS)
        connection.shutdown(socket.SHUT_WR)
        assert is_silent(connection)
        proxy.let_pass()
        assert connection.recv(1) == b""


def test_requests_arrive_while_answers_are_dropped(proxy: Proxy, server: EchoServer) -> None:
    with client(proxy) as connection:
        proxy.drop_answers()
        connection.sendall(b"do it")
        wait_until(lambda: proxy.swallowed_bytes[Direction.ANSWERS] == 5)
        assert server.received == 5
        assert is_silent(connection)


def test_a_closed_listener_reopens_at_the_same_address(proxy: Proxy) -> None:
    port = proxy.port
    with client(proxy) as old:
        assert echo(old, b"before") == b"before"
        proxy.refuse()
        for _ in range(3):
            with pytest.raises(ConnectionRefusedError):
                client(proxy)
        assert echo(old, b"still here") == b"still here"
        proxy.let_pass()
        with client(proxy) as new:
            assert echo(new, b"again") == b"again"
    assert proxy.port == port


def test_a_reset_reaches_open_and_new_connections(proxy: Proxy) -> None:
    with client(proxy) as old:
        assert echo(old, b"before") == b"before"
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            old.recv(1)
    with pytest.raises(ConnectionResetError), client(proxy) as new:
        new.recv(1)
    proxy.let_pass()
    with client(proxy) as after:
        assert echo(after, b"after") == b"after"
        proxy.reset(new=False)
        with pytest.raises(ConnectionResetError):
            after.recv(1)
    with client(proxy) as connection:
        assert echo(connection, b"only those that were open") == b"only those that were open"


@pytest.mark.parametrize("count", [0, 1, 7, 100_000])
def test_answers_are_cut_after_so_many_bytes_and_then_reset(proxy: Proxy, server: EchoServer, count: int) -> None:
    with client(proxy) as connection:
        assert echo(connection, b"before") == b"before"
        proxy.cut_after(count)
        data = random.Random(count).randbytes(count + 5)
        connection.sendall(data)
        got = b""
        with pytest.raises(ConnectionResetError):  # noqa: PT012  it may come with any of the reads
            while True:
                got += connection.recv(CHUNK_BYTES)
        assert got == data[:count]
    assert server.received >= 6 + count
    proxy.let_pass()
    with client(proxy) as connection:
        assert echo(connection, data) == data


def test_requests_are_cut_after_so_many_bytes(proxy: Proxy, server: EchoServer) -> None:
    proxy.cut_after(4, direction=Direction.REQUESTS)
    with client(proxy) as connection:
        assert echo(connection, b"1234") == b"1234"
        with pytest.raises(ConnectionResetError):
            echo(connection, b"5")
    assert server.received == 4


def test_a_reader_that_does_not_read_stops_the_sender(proxy: Proxy) -> None:
    """Kernel buffers of four sockets and the proxy's own fill up, and then nothing more is taken."""
    with client(proxy) as connection:
        connection.setblocking(False)
        sent = 0
        while select.select([], [connection], [], 0.5)[1]:
            sent += connection.send(b"x" * CHUNK_BYTES)
            assert sent < 64 * 1024 * 1024
        assert sent > 0
        connection.setblocking(True)
        connection.settimeout(10)
        assert len(read(connection, sent)) == sent, "and nothing was lost"


def test_a_target_that_does_not_listen_is_a_reset(server: EchoServer) -> None:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        nobody = probe.getsockname()[1]
    # the reset may come before connect() has returned
    with Proxy(LOOPBACK, nobody) as proxy, pytest.raises(ConnectionResetError), client(proxy) as connection:
        connection.recv(1)


def test_a_failover_resets_open_connections(proxy: Proxy, server: EchoServer) -> None:
    other = EchoServer()
    with client(proxy) as connection:
        assert echo(connection, b"to the first") == b"to the first"
        proxy.redirect_to(LOOPBACK, other.port)
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with client(proxy) as connection:
        assert echo(connection, b"to the other") == b"to the other"
    assert (server.received, other.received) == (12, 12)
    other.close()


def test_the_port_to_listen_on_may_be_given(server: EchoServer) -> None:
    with Proxy(LOOPBACK, server.port) as first:
        wanted = first.port
    with Proxy(LOOPBACK, server.port, listen_port=wanted) as proxy, client(proxy) as connection:
        assert proxy.port == wanted
        assert echo(connection, b"x") == b"x"


def test_a_closed_proxy_leaves_no_thread_and_no_socket(server: EchoServer) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    before, threads = descriptors(), threading.active_count()
    proxy = Proxy(LOOPBACK, server.port).start()
    connections = [client(proxy) for _ in range(20)]
    assert all(echo(connection, b"x") == b"x" for connection in connections)
    proxy.hold()
    connections[0].sendall(b"held")
    proxy.refuse()
    proxy.let_pass()
    proxy.blackhole()
    connections[1].sendall(b"swallowed")

    proxy.close()
    proxy.close()

    for connection in connections:
        with pytest.raises(ConnectionResetError):  # noqa: PT012  what was held may come first
            while connection.recv(8):
                pass
        connection.close()
    # Fewer, if something of an earlier test ended meanwhile.
    wait_until(lambda: descriptors() <= before and threading.active_count() <= threads, what="no more than before")
    with pytest.raises(ConnectionRefusedError):
        client(proxy)
