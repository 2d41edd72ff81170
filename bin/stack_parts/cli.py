"""The command line of bin/stack: parses, calls one function, prints."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from . import docker, envfile, packages, settings, vegeta
from .errors import StackError
from .home import Home
from .kafka import Kafka
from .postgres import Postgres
from .redis import Redis
from .server import Server

SERVERS: dict[str, Callable[[Home], Server]] = {
    "postgres": Postgres,
    "redis": Redis,
    **{name: partial(Kafka, number=number) for number, name in enumerate(settings.BROKERS, start=1)},
}

_EPILOG = """\
examples:
  bin/stack up                        the three servers, ready to use
  bin/stack kill redis                SIGKILL, as in a crash; `bin/stack start redis` brings it back
  bin/stack up --brokers 3            three brokers: kafka, kafka-2 and kafka-3
  bin/stack pause kafka postgres      SIGSTOP: both hang; `bin/stack resume kafka postgres`
  bin/stack exec -- python manage.py shell
  STACK_HOME=.stack/test bin/stack status

environment:
  STACK_HOME    the stack's folder, relative to the checkout (default .stack)
  STACK         `native` or `docker` (default: native if possible)
"""


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 done, 1 not done (the reason is on standard error), 2 wrong usage."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except StackError as error:
        print(f"bin/stack: {error}", file=sys.stderr)
    except PermissionError as error:
        print(f"bin/stack: {error}\nDoes the folder belong to another user (root)?", file=sys.stderr)
    except KeyboardInterrupt:
        print("bin/stack: interrupted", file=sys.stderr)
        return 130
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bin/stack",
        description="PostgreSQL, Redis and Apache Kafka of this checkout, with folders and ports of its own.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    for verb, text in {
        "up": "start all three and wait until each answers",
        "down": "stop all three",
        "status": "show each server's state; exit 0 only when all three answer",
        "env": "print the settings as KEY=value lines; a variable that is already set wins",
    }.items():
        sub = verbs.add_parser(verb, help=text)
        if verb == "up":
            sub.add_argument("--brokers", type=int, choices=[1, 3], help="of Kafka; the stack keeps their number")
    for verb, text in {
        "start": "start a server and wait until it answers; resume a paused one",
        "stop": "stop a server cleanly, even a paused one",
        "kill": "send SIGKILL to a server and its children",
        "pause": "send SIGSTOP to a server and its children",
        "resume": "send SIGCONT to a server and its children",
        "wipe": "remove the data folder of a stopped server",
        "logs": "show the end of the log",
    }.items():
        sub = verbs.add_parser(verb, help=text)
        sub.add_argument("parts", nargs="+", choices=SERVERS, metavar="PART", help=", ".join(SERVERS))
        if verb == "logs":
            sub.add_argument("-n", "--lines", type=int, default=50, help="number of lines (default 50)")
            sub.add_argument("-f", "--follow", action="store_true", help="follow the log until Ctrl-C")
    for verb, text in {
        "exec": "run a command with the stack's settings in its environment",
        "run": "start the stack, run a command with its settings, stop the stack; exit with the command's code",
    }.items():
        sub = verbs.add_parser(verb, help=text)
        sub.add_argument("command", nargs="+", metavar="-- COMMAND")
        if verb == "run":
            sub.add_argument(
                "--beside",
                action="append",
                default=[],
                metavar="FOLDER",
                help="also run a stack in FOLDER meanwhile; its settings are in FOLDER/env",
            )
    sub = verbs.add_parser("packages", help="install system packages for the servers, the tests or the benchmarks")
    sub.add_argument("set", nargs="?", choices=["servers", "tests", "system-tests", "benchmarks"], default="servers")
    return parser


def _run(options: argparse.Namespace) -> int:
    home = Home.current()
    parts = _parts(home, options)
    match options.verb:
        case "up" | "start":
            start(home, parts)
        case "down" | "stop":
            stop(home, parts)
        case "status":
            return status(home)
        case "env":
            # as bytes: a path must not become another one where the terminal lacks a character of it
            sys.stdout.buffer.write(os.fsencode(envfile.render(home.effective_settings())))
        case "exec":
            _exec(home, options.command)
        case "run":
            homes = [home, *map(Home.named, options.beside)]
            return _run_with_stacks(homes, options.command)
        case "packages":
            _install_packages(home, options.set)
        case "logs":
            _logs(home, options.parts, lines=options.lines, follow=options.follow)
        case verb:
            _act(home, verb, options.parts)
    return 0


def _parts(home: Home, options: argparse.Namespace) -> list[str]:
    """The parts that were named, or all of the stack."""
    if getattr(options, "brokers", None):
        home.set_brokers(options.brokers)
    parts: list[str] = getattr(options, "parts", home.parts)
    if not set(parts) <= set(home.parts):
        raise StackError("this stack has one broker; `bin/stack up --brokers 3` makes one with three")
    return parts


def say(part: str, text: str) -> None:
    """Prints a line of progress to standard error, so that standard output has only the command's own output."""
    print(f"{part:<9} {text}", file=sys.stderr, flush=True)


def mode(home: Home) -> str:
    """`native` or `docker`: the value of STACK, else the mode of this stack's last start."""
    wish = os.environ.get("STACK", "")
    if wish not in ("", "native", "docker"):
        raise StackError(f"STACK is {wish!r}; it must be native or docker")
    return wish or (home.state().mode if home.state_file.exists() else "native")


def start(home: Home, parts: list[str]) -> None:
    """Starts the servers concurrently and waits until all answer. Reports every failure."""
    if mode(home) == "docker" or not _can_run_natively(home, parts):
        if home.state().brokers > 1:
            raise StackError("three brokers run natively alone; unset STACK, or use one broker")
        docker.start(home, parts)
        home.set_mode("docker")
        return
    home.set_mode("native")
    servers = [SERVERS[part](home) for part in parts]
    with ThreadPoolExecutor(len(servers)) as pool:
        _raise_failures([pool.submit(_start_one, server) for server in servers])


def _raise_failures(running: list[Future[None]]) -> None:
    """Waits for all, then raises one error that names every failure."""
    failures = [error for future in running if (error := future.exception()) is not None]
    for error in failures:
        if not isinstance(error, StackError):
            raise error
    if failures:
        raise StackError("\n\n".join(str(error) for error in failures))


def _start_one(server: Server) -> None:
    server.start()
    record = server.record()
    say(server.name, f"up on 127.0.0.1:{server.port()}{f' (pid {record.pid})' if record else ''}")


def _can_run_natively(home: Home, parts: list[str]) -> bool:
    """Installs missing programs. Returns False if that is impossible but a container engine answers."""
    try:
        if not sys.platform.startswith("linux"):
            raise StackError("running the servers natively needs Linux; elsewhere use containers: STACK=docker")
        packages.ensure([need for part in parts for need in SERVERS[part](home).needs()])
    except StackError:
        if os.environ.get("STACK") != "native" and docker.engine_answers():
            return False
        raise
    return True


def stop(home: Home, parts: list[str]) -> None:
    """Stops the servers. A server that is not running is no error."""
    if not home.root.exists():
        return
    if mode(home) == "docker":
        docker.stop(home, parts)
        return
    # all servers get their signal at once, and each has its own time to stop
    with ThreadPoolExecutor(len(parts)) as pool:
        stopped = list(pool.map(lambda part: SERVERS[part](home).stop(), parts))
    for part, was_running in zip(parts, stopped, strict=True):
        say(part, "stopped" if was_running else "was not running")


def status(home: Home) -> int:
    """Prints one line per server. Returns 0 only when all three answer."""
    if home.root.exists() and mode(home) == "docker":
        return 0 if docker.show_status(home) else 1
    states = {part: SERVERS[part](home).state() for part in home.parts}
    for part, state in states.items():
        server = SERVERS[part](home)
        record = server.record()
        where = f"  127.0.0.1:{server.port()}  pid {record.pid}" if record else ""
        print(f"{part:<9} {state}{where}")
    return 0 if all(state == "up" for state in states.values()) else 1


def _act(home: Home, verb: str, parts: list[str]) -> None:
    if mode(home) == "docker":
        docker.ACTIONS[verb](home, parts)
        return
    for part in parts:
        server = SERVERS[part](home)
        {"kill": server.kill, "pause": server.pause, "resume": server.resume, "wipe": server.wipe}[verb]()
        done = {"kill": "killed", "pause": "paused", "resume": "resumed", "wipe": "wiped"}[verb]
        say(part, done)


def _logs(home: Home, parts: list[str], *, lines: int, follow: bool) -> None:
    if home.root.exists() and mode(home) == "docker":
        docker.logs(home, parts, lines=lines, follow=follow)
        return
    files = [str(path) for part in parts if (path := home.log_file(part)).exists()]
    if not files:
        raise StackError("no log yet")
    sys.stdout.flush()
    os.execvp("tail", ["tail", f"--lines={lines}", *(["-F"] if follow else []), *files])


def _environment(home: Home) -> dict[str, str]:
    return {"COUPON_ENV_FILE": str(home.env_file), **os.environ, **home.effective_settings()}


def _exec(home: Home, command: list[str]) -> None:
    environment = _environment(home)
    if shutil.which(command[0]) is None:
        raise StackError(f"no such command: {command[0]}")
    sys.stdout.flush()
    os.execvpe(command[0], command, environment)


def _run_with_stacks(homes: list[Home], command: list[str]) -> int:
    """Runs the command with the settings of the first stack while all stacks are up."""
    with contextlib.ExitStack() as locks:
        for home in homes:
            if not locks.enter_context(home.try_lock("run")):
                raise StackError(f"another `bin/stack run` uses {home.root}; wait for it or choose another STACK_HOME")
        try:
            _for_each(homes, start)
            return _wait_for(command, _environment(homes[0]))
        finally:
            # a second Ctrl-C must not leave servers running
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            _for_each(homes, stop)


def _for_each(homes: list[Home], act: Callable[[Home, list[str]], None]) -> None:
    """Handles the stacks concurrently and reports every failure."""
    with ThreadPoolExecutor(len(homes)) as pool:
        _raise_failures([pool.submit(act, home, home.parts) for home in homes])


def _wait_for(command: list[str], environment: dict[str, str]) -> int:
    """Returns the command's exit code. Ctrl-C reaches the command through the terminal; this process forwards SIGTERM
    and SIGHUP."""
    with subprocess.Popen(command, env=environment) as child:
        signal.signal(signal.SIGINT, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda received, _frame: child.send_signal(received))
        code = child.wait()
    return code if code >= 0 else 128 - code


def _install_packages(home: Home, which: str) -> None:
    if which in ("servers", "tests"):
        packages.ensure([packages.CURL, *([packages.COMPILER] if which == "tests" else [])])
        if mode(home) == "native":
            _can_run_natively(home, home.parts)
    elif which == "system-tests":
        packages.ensure_apt(settings.APT_PACKAGES_SYSTEM_TESTS)
    else:
        packages.ensure_apt(settings.APT_PACKAGES_BENCHMARKS)
        vegeta.ensure()
