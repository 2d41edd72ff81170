"""docker-compose.yml is well-formed and says the same as bin/stack. tests/containers runs it."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from stack_parts import settings
from stack_parts.home import CHECKOUT, Home

from couponsite.env_file import read_env_file

FILES = ["docker-compose.yml", "docker-compose.stack.yml"]
APPLICATION = ["migrate", "web", "consumer", "keeper", "jobs"]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return load("docker-compose.yml")


def load(name: str) -> dict[str, Any]:
    loaded = yaml.safe_load((CHECKOUT / name).read_text())
    assert isinstance(loaded, dict)
    return loaded


@pytest.mark.parametrize("name", FILES)
def test_the_file_follows_the_compose_specification(name: str) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", name]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_whole_product_is_in_it(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == {*settings.PARTS, *APPLICATION}


@pytest.mark.parametrize("part", settings.PARTS)
def test_images_are_of_the_versions_that_the_stack_runs(compose: dict[str, Any], part: str) -> None:
    assert compose["services"][part]["image"] == settings.IMAGES[part]


def test_the_jars_are_of_the_same_kafka() -> None:
    pom = (CHECKOUT / "bin" / "kafka-pom.xml").read_text()
    assert re.findall("<kafka.version>(.*)</kafka.version>", pom) == [settings.KAFKA_VERSION]


def test_postgres_settings_are_the_stacks(compose: dict[str, Any]) -> None:
    words = compose["services"]["postgres"]["command"]
    assert words[0] == "postgres"
    assert dict(word.removeprefix("-c").split("=", 1) for word in words[1:]) == settings.POSTGRES_SETTINGS


def test_redis_settings_are_the_stacks(compose: dict[str, Any]) -> None:
    script = compose["services"]["redis"]["command"][2]
    words = shlex.split(script.removeprefix("exec docker-entrypoint.sh redis-server"))
    options = {name.removeprefix("--"): value for name, value in zip(words[::2], words[1::2], strict=True)}
    assert options.pop("requirepass") == "$$REDIS_PASSWORD"
    assert options == settings.REDIS_SETTINGS


def test_kafka_settings_are_the_stacks(compose: dict[str, Any]) -> None:
    environment = compose["services"]["kafka"]["environment"]
    expected = {f"KAFKA_{name.upper().replace('.', '_')}": value for name, value in settings.KAFKA_SETTINGS.items()}
    own_place = {
        "KAFKA_LISTENERS",
        "KAFKA_ADVERTISED_LISTENERS",
        "KAFKA_CONTROLLER_QUORUM_VOTERS",
        "KAFKA_LOG_DIRS",
        "KAFKA_HEAP_OPTS",
    }
    assert {name: value for name, value in environment.items() if name not in own_place} == expected
    assert environment["KAFKA_HEAP_OPTS"] == f"-Xms{settings.KAFKA_HEAP} -Xmx{settings.KAFKA_HEAP}"


def test_the_applications_variables_are_those_of_the_stack(compose: dict[str, Any], tmp_path: Path) -> None:
    stack = set(Home(tmp_path).settings_of(Home(tmp_path).state()))
    given = {name for part in APPLICATION for name in compose["services"][part]["environment"]}
    # WEB_HOST: a container listens on all its addresses; the operator makes the first admin user by hand;
    # COUPON_PLAINTEXT_HOSTS: a stack's servers are on loopback, these are in a network of their own;
    # COUPON_TRUSTED_PROXIES: a stack of one's own has no proxy; the keys that sign or make codes: it has no former ones
    own = {"WEB_HOST", "COUPON_PLAINTEXT_HOSTS", "COUPON_TRUSTED_PROXIES"}
    own |= {"DJANGO_SECRET_KEY_FALLBACKS", "COUPON_MESSAGE_KEYS", "COUPON_CODE_KEYS"}
    assert given - own == {name for name in stack if not name.startswith("DJANGO_SUPERUSER_")}


def test_no_secret_has_a_default() -> None:
    for name in FILES:
        secrets = r"\$\{([A-Z_]*(?:PASSWORD|SECRET|KEYS?|FALLBACKS))([^A-Z_}][^}]*)?\}"
        for variable, condition in re.findall(secrets, (CHECKOUT / name).read_text()):
            may_be_empty = condition in ("", ":-")
            assert may_be_empty or condition.startswith(":?"), f"{variable} has a default in {name}"


def test_each_variable_of_the_file_is_in_the_example() -> None:
    needed = set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", (CHECKOUT / "docker-compose.yml").read_text()))
    example = CHECKOUT / ".env.example"
    explained = example.read_text()
    assert needed
    assert all(re.search(rf"^#?{name}=", explained, re.MULTILINE) for name in needed)
    assert "DATABASE_URL" in read_env_file(example)


@pytest.mark.parametrize("part", APPLICATION)
def test_every_setting_of_the_file_reaches_the_programs(compose: dict[str, Any], part: str) -> None:
    assert compose["services"][part]["env_file"] == [{"path": ".env", "required": False}]


@pytest.mark.parametrize("part", settings.PARTS)
def test_each_server_keeps_its_data_and_is_watched(compose: dict[str, Any], part: str) -> None:
    service = compose["services"][part]
    volume = service["volumes"][0].split(":")[0]
    assert volume in compose["volumes"]
    assert service["healthcheck"]["test"]
    assert "ports" not in service, "only the web server is reached from outside"


@pytest.mark.parametrize("part", ["web", "consumer", "keeper", "jobs"])
def test_nothing_starts_before_the_migrations_are_done(compose: dict[str, Any], part: str) -> None:
    assert compose["services"][part]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"


def test_the_image_is_complete_and_runs_unprivileged() -> None:
    dockerfile = (CHECKOUT / "Dockerfile").read_text()
    assert re.search(r"^USER coupons$", dockerfile, re.MULTILINE)
    assert "bin/pip-locked /opt/venv/bin/python requirements.txt" in dockerfile
    ignored = (CHECKOUT / ".dockerignore").read_text().splitlines()
    copies = [line.split()[1:-1] for line in dockerfile.splitlines() if re.match(r"COPY (?!--)", line)]
    assert ignored[1] == "*"
    assert all(f"!{name}" in ignored for names in copies for name in names)
