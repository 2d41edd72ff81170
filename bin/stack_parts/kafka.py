"""Runs Apache Kafka from the project's own jars: one node that is broker and controller, or one of three."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path

from . import packages, probes, settings
from .errors import StackError
from .home import CHECKOUT, Home
from .ports import LOOPBACK
from .server import Command, Server

POM = CHECKOUT / "bin" / "kafka-pom.xml"


class Kafka(Server):
    program = "java"

    def __init__(self, home: Home, *, number: int = 1) -> None:
        super().__init__(home)
        self.number = number
        self.name = settings.BROKERS[number - 1]
        # without kafka_proxy: a test's proxy may listen there while the broker restarts
        self.port_names = (self.name, f"{self.name}_controller", *(["kafka_proxied"] if number == 1 else []))

    def needs(self) -> list[packages.Need]:
        return [packages.JAVA, *([] if self._jars_are_current() else [packages.MAVEN])]

    @property
    def marker(self) -> str:
        # a separate argument, so that another stack's folder never matches a part of it
        return f"-Dcoupons.stack={self.home.data(self.name)}"

    @property
    def _scratch(self) -> Path:
        return self.home.data(self.name) / "tmp"

    def prepare(self) -> None:
        self.fetch_jars()
        data = self.home.data(self.name)
        # The broker unpacks its codecs here. Killed, it leaves them behind, 230 KiB each time.
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir(parents=True, exist_ok=True)
        ports, is_one_of_three = self.home.state().ports, self._is_one_of_three
        listeners = {"PLAINTEXT": self.name, "CONTROLLER": f"{self.name}_controller"}
        advertised = {"PLAINTEXT": self.name}
        if not is_one_of_three:
            listeners["PROXIED"], advertised["PROXIED"] = "kafka_proxied", "kafka_proxy"
        controllers = [f"{LOOPBACK}:{ports[f'{broker}_controller']}" for broker in settings.BROKERS]
        voters = ",".join(f"{number}@{address}" for number, address in enumerate(controllers, start=1))
        own = {
            "node.id": str(self.number),
            "listeners": ",".join(f"{name}://{LOOPBACK}:{ports[port]}" for name, port in listeners.items()),
            "advertised.listeners": ",".join(f"{name}://{LOOPBACK}:{ports[port]}" for name, port in advertised.items()),
            "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in listeners),
            **(
                {"controller.quorum.voters": voters, **settings.SETTINGS_OF_THREE_BROKERS}
                if is_one_of_three
                else {"controller.quorum.bootstrap.servers": controllers[0]}
            ),
            # relative to the working directory: a comma in an absolute path would split it in two
            "log.dirs": "data",
        }
        lines = (f"{name}={value}" for name, value in (settings.KAFKA_SETTINGS | own).items())
        (data / "server.properties").write_text("\n".join(lines) + "\n")
        if not (data / "data" / "meta.properties").exists():
            self._format(data)

    def command(self) -> Command:
        heap = settings.HEAP_OF_THREE_BROKERS if self._is_one_of_three else settings.KAFKA_HEAP
        return self._java(
            f"-Xms{heap}",
            f"-Xmx{heap}",
            "-Djava.awt.headless=true",
            *_LOGGING,
            "kafka.Kafka",
            "server.properties",
        )

    def answers(self) -> bool:
        return probes.kafka_answers(self.port())

    @property
    def _is_one_of_three(self) -> bool:
        return self.home.state().brokers == 3

    def _java(self, *words: str) -> Command:
        data = self.home.data(self.name)
        # relative: a class path is a list, and an absolute path may contain its separator
        jars = os.path.relpath(self.home.kafka_jars, data)
        java = str(packages.JAVA.find())
        scratch = f"-Djava.io.tmpdir={self._scratch}"
        return Command([java, self.marker, scratch, "-cp", f"{jars}/*", *words], cwd=data, env=os.environ)

    def _format(self, data: Path) -> None:
        """Makes the data folder of a new cluster's node, completely or not at all."""
        shutil.rmtree(data / "data", ignore_errors=True)
        # three nodes are formatted one by one, with the same id; one that has lost its disk comes back to the others
        new = uuid.uuid5(uuid.NAMESPACE_URL, str(self.home.root)) if self._is_one_of_three else uuid.uuid4()
        cluster = urlsafe_b64encode(new.bytes).decode().rstrip("=")
        # the tool would read a separate id that starts with a dash as an option
        words = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster}"]
        words += [] if self._is_one_of_three else ["--standalone"]
        command = self._java("-Xmx256m", *_LOGGING, *words, "--config=server.properties")
        done = subprocess.run(
            command.words,
            cwd=command.cwd,
            env=command.env,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode != 0:
            shutil.rmtree(data / "data", ignore_errors=True)
            raise StackError(f"formatting Kafka's data folder failed:\n{done.stdout[-1500:]}{done.stderr[-1500:]}")

    def _jars_are_current(self) -> bool:
        stamp = self.home.kafka_jars / "pom.sha256"
        return stamp.exists() and stamp.read_text() == _pom_digest()

    def fetch_jars(self) -> None:
        """Fetches Kafka's jars by Maven, which verifies checksums; once for all stacks of this checkout."""
        with type(self.home)(self.home.kafka_jars.parent).lock("kafka-lib"):
            if self._jars_are_current():
                return
            fresh = self.home.kafka_jars.with_name("kafka-lib.new")
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
            goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={fresh}"]
            done = subprocess.run(
                ["mvn", "-q", "-B", "-C", "-f", str(POM), *goal],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
            if done.returncode != 0:
                output = (done.stdout + done.stderr)[-2500:]
                raise StackError(f"Maven could not fetch Kafka {settings.KAFKA_VERSION}:\n{output}")
            (fresh / "pom.sha256").write_text(_pom_digest())
            shutil.rmtree(self.home.kafka_jars, ignore_errors=True)
            # crash before here => the next start discards kafka-lib.new and fetches it again
            fresh.rename(self.home.kafka_jars)


def _pom_digest() -> str:
    return hashlib.sha256(POM.read_bytes()).hexdigest()


_LOGGING = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=info",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
    "-Dorg.slf4j.simpleLogger.showShortLogName=true",
    # these log every setting with its value, three times at each start
    *(
        f"-Dorg.slf4j.simpleLogger.log.{name}=warn"
        for name in (
            "org.apache.kafka.common.config",
            "kafka.server.KafkaConfig",
            "org.apache.kafka.clients",
            "org.apache.kafka.common.utils.AppInfoParser",
        )
    ),
)
