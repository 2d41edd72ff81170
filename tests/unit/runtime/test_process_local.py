"""One object per process: made once among threads, never taken over by a forked child, closed at the end."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from coupons.runtime.process_local import ProcessLocal
from tests.support.process import ROOT


class Client:
    made = 0

    def __init__(self) -> None:
        Client.made += 1
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def run(program: str) -> str:
    """In a process without threads: a fork of the tests' own would copy theirs."""
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def test_it_is_made_once_among_many_threads() -> None:
    Client.made = 0
    client = ProcessLocal(Client, close=Client.close)

    with ThreadPoolExecutor(16) as pool:
        found = set(pool.map(lambda _: id(client()), range(200)))

    assert len(found) == 1
    assert Client.made == 1


def test_a_reset_closes_it_and_the_next_call_makes_another() -> None:
    client = ProcessLocal(Client, close=Client.close)
    first = client()
    client.reset()

    assert first.closed == 1
    assert client() is not first


def test_the_last_value_is_closed_once_at_exit() -> None:
    output = run(
        "from multiprocessing import util\n"
        "from coupons.runtime.process_local import ProcessLocal\n"
        "client = ProcessLocal(object, close=lambda made: print('closed', made is last))\n"
        "for _ in range(100):\n"
        "    client.reset()\n"
        "    last = client()\n"
        "print(len(util._finalizer_registry))\n"
    )

    assert output.splitlines() == ["closed True"] * 99 + ["1", "closed True"]


def test_a_reset_of_nothing_does_nothing() -> None:
    Client.made = 0
    ProcessLocal(Client, close=Client.close).reset()

    assert Client.made == 0


def test_a_forked_child_makes_its_own_value() -> None:
    output = run(
        "import os\n"
        "from coupons.runtime.process_local import ProcessLocal\n"
        "client = ProcessLocal(lambda: [os.getpid()], close=lambda made: made.append('closed'))\n"
        "parent = client()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    own = client()\n"
        "    client.reset()\n"
        "    os._exit(0 if own[0] == os.getpid() and parent == [os.getppid()] else 1)\n"
        "print(os.waitpid(child, 0)[1], client() is parent, parent == [os.getpid()])\n"
    )

    assert output.split() == ["0", "True", "True"]


def test_a_child_forked_during_the_making_does_not_hang() -> None:
    output = run(
        "import os, threading, warnings\n"
        "warnings.simplefilter('ignore')  # forking among threads is what is looked at\n"
        "from coupons.runtime.process_local import ProcessLocal\n"
        "inside, go_on = threading.Event(), threading.Event()\n"
        "def make():\n"
        "    inside.set()\n"
        "    return go_on.wait(20)\n"
        "client = ProcessLocal(make, close=lambda made: None)\n"
        "threading.Thread(target=client).start()\n"
        "inside.wait(20)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    go_on.set()\n"
        "    os._exit(0 if client() else 1)\n"
        "print(os.waitpid(child, 0)[1])\n"
        "go_on.set()\n"
    )

    assert output.split() == ["0"]


def test_it_is_closed_at_the_process_s_normal_end() -> None:
    output = run(
        "from coupons.runtime.process_local import ProcessLocal\n"
        "client = ProcessLocal(lambda: 'made', close=lambda made: print(made, 'closed'))\n"
        "client()\n"
    )

    assert output.strip() == "made closed"
