"""A container engine of the tests' own, with stand-ins for the four images that the compose files name.

Neither an engine nor an image registry is needed, but root, overlayfs and Debian's packages. The engine is Debian 13's
(Debian 12's is too old for `start_interval`). It has a root folder, a mount namespace and a network namespace of its
own. The stand-ins have the names, users, folders, volumes, variables and signals of the real images, and are made of
Debian 12's packages and Kafka's jars (tests/containers/images).
"""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from stack_parts import packages, settings
from stack_parts.errors import StackError
from stack_parts.home import Home
from stack_parts.kafka import Kafka

from tests.support.process import ROOT
from tests.support.waiting import wait_until

HERE = ROOT / "tests" / "containers"
PROJECT = "/project"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
IMAGES = {"python": "python:3.11-slim-bookworm", **settings.IMAGES}
ENGINE_PACKAGES = "docker.io,docker-cli,docker-compose,docker-buildx,iptables,ca-certificates,python3"
NOT_COPIED = (".git", ".venv", ".stack", ".env", ".*_cache", "__pycache__", "results", "scratch")
END_WITH_THIS_PROCESS = ["setpriv", "--pdeathsig", "TERM"]


class CannotRun(Exception):
    """This machine lacks what the engine needs; says what."""


class Engine:
    """`root` is the engine's root folder, and `project` the copy of the checkout in it."""

    def __init__(self) -> None:
        require_machine()
        self._work = Path(tempfile.mkdtemp(prefix="coupons-engine-", dir="/var/tmp"))  # /tmp may be in memory
        self._processes: list[subprocess.Popen[bytes]] = []
        self.root = self._work / "root"
        self.project = self.root / PROJECT.strip("/")
        try:
            self._make_folders()
            self._start()
            self._build_stand_ins()
        except BaseException:
            self.close()
            raise

    def run(
        self, *command: str, env: Mapping[str, str] | None = None, check: bool = True, within_sec: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """Runs a program of the engine's root folder, in the project."""
        variables = {"PATH": PATH, "HOME": "/root", "LC_ALL": "C.UTF-8", **(env or {})}
        words = ["env", "-i", *(f"{name}={value}" for name, value in variables.items())]
        words += ["sh", "-c", f'cd {PROJECT} && exec "$@"', "sh", *command]
        return self._enter(["--mount", "--net"], words, check=check, within_sec=within_sec)

    def curl(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Runs this machine's curl in the engine's network."""
        return self._enter(["--net"], ["curl", "-sS", "--max-time", "15", *words], check=False, within_sec=30)

    def close(self) -> None:
        """Ends what this has started, and removes it all."""
        for process in self._processes:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        _remove_cgroups(self._work.name)
        # The mounts are in a namespace that has ended. If one is seen here, nothing is removed through it.
        if f" {self._work}" in Path("/proc/self/mountinfo").read_text():
            raise AssertionError(f"still mounted below {self._work}: left there")
        shutil.rmtree(self._work)

    def _make_folders(self) -> None:
        def make(suite: str, target: Path, packages: str) -> None:
            _run(["mmdebstrap", "--quiet", "--variant=minbase", f"--include={packages}", suite, str(target)])

        with ThreadPoolExecutor() as pool:
            running = [
                pool.submit(make, "trixie", self.root, ENGINE_PACKAGES),
                pool.submit(make, "bookworm", self._work / "base.tar", "ca-certificates"),
                pool.submit(Kafka(Home.current()).fetch_jars),
            ]
        for each in running:
            each.result()
        images = self.root / "images"
        shutil.copytree(HERE / "images", images)
        shutil.move(self._work / "base.tar", images)
        shutil.copytree(Home.current().kafka_jars, images / "kafka" / "libs")
        shutil.copy("/etc/ssl/certs/ca-certificates.crt", images / "python")
        shutil.copy("/etc/resolv.conf", self.root / "etc")
        shutil.copytree(ROOT, self.project, symlinks=True, ignore=shutil.ignore_patterns(*NOT_COPIED))

    def _start(self) -> None:
        namespaces = ["unshare", "--mount", "--net", "--propagation", "private"]
        engine = self._spawn([*namespaces, str(HERE / "start-engine.sh"), str(self.root), self._work.name])
        wait_until(lambda: self._has_own_network(engine.pid), what="a network namespace of the engine's own")
        self._spawn(["slirp4netns", "--configure", "--mtu=1400", str(engine.pid), "tap0"])
        wait_until(
            lambda: self.run("docker", "info", check=False).returncode == 0, within_sec=60, what=self._what_was_logged
        )

    def _build_stand_ins(self) -> None:
        self.run("docker", "import", "/images/base.tar", "stand-in/base")

        def build(folder: str) -> None:
            self.run("docker", "build", "--quiet", "--tag", IMAGES[folder], f"/images/{folder}")

        with ThreadPoolExecutor() as pool:
            list(pool.map(build, IMAGES))

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        with (self._work / f"{command[0]}.log").open("wb") as log:
            process = subprocess.Popen(
                [*END_WITH_THIS_PROCESS, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        self._processes.append(process)
        return process

    def _enter(
        self, namespaces: list[str], command: Sequence[str], *, check: bool, within_sec: float
    ) -> subprocess.CompletedProcess[str]:
        engine = self._processes[0].pid
        return _run(["nsenter", "--target", str(engine), *namespaces, *command], check=check, within_sec=within_sec)

    @staticmethod
    def _has_own_network(pid: int) -> bool:
        return Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()

    def _what_was_logged(self) -> str:
        return (self._work / "unshare.log").read_text()[-2_000:]


def require_machine() -> None:
    """Raises CannotRun. Installs the packages that are missing."""
    if not packages.can_install():
        raise CannotRun("needs root on Debian")
    with suppress(FileNotFoundError):
        subprocess.run(["modprobe", "overlay"], capture_output=True, check=False)
    if "\toverlay\n" not in Path("/proc/filesystems").read_text():
        raise CannotRun("the kernel has no overlay file system")
    if not Path("/dev/net/tun").exists():
        raise CannotRun("there is no /dev/net/tun")
    try:
        packages.ensure_apt(settings.APT_PACKAGES_CONTAINER_TESTS)
    except StackError as error:
        raise CannotRun(f"the packages cannot be installed: {error}") from error
    tried = subprocess.run(["unshare", "--mount", "--net", "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        raise CannotRun(f"namespaces cannot be made: {tried.stderr.strip()}")


def until_it_works(act: Callable[[], bool], *, what: str) -> None:
    """For what costs a process: tried once a second."""
    deadline = time.monotonic() + 90
    while not act():
        assert time.monotonic() < deadline, f"not within 90 s: {what}"
        time.sleep(1)


def _run(command: Sequence[str], *, check: bool = True, within_sec: float = 600) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=within_sec,
    )
    assert not check or done.returncode == 0, f"{' '.join(command)}\n{(done.stdout + done.stderr)[-4_000:]}"
    return done


def _remove_cgroups(name: str) -> None:
    """An empty group is removed by rmdir, which leaves what is in use. BuildKit's has the same name for all engines."""
    groups = [*Path("/sys/fs/cgroup").glob(f"**/{name}*/**/"), *Path("/sys/fs/cgroup").glob("**/docker/buildkit/")]
    groups += [group.parent for group in groups if group.name == "buildkit"]
    for group in sorted(groups, key=lambda path: len(path.parts), reverse=True):
        with suppress(OSError):
            group.rmdir()
