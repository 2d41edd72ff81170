"""docs/deploy/systemd: what systemd understands, and what the product has."""

import re
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class

from tests.support.process import ROOT

FOLDER = ROOT / "docs" / "deploy" / "systemd"
SERVICES = sorted(file.name for file in FOLDER.glob("*.service"))
PLACE = "/opt/coupons"
MOST_EXPOSED = 20
"""Tenths of systemd's measure, where 100 is a service that may do everything."""


def section(file: Path, name: str) -> dict[str, str]:
    """The last value of each key."""
    parser = ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment]
    parser.read(file)
    return dict(parser[name])


COMMON = section(FOLDER / "coupons-.service.d" / "common.conf", "Service")


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units, with this checkout in the place of /opt/coupons."""
    shutil.copytree(FOLDER, tmp_path / "units")
    for file in (tmp_path / "units").rglob("*.*"):
        if file.is_file():
            file.write_text(file.read_text().replace(PLACE, str(ROOT)))
    return tmp_path / "units"


def test_each_program_has_a_unit() -> None:
    programs = re.findall(r"^(\w+): exec (.*)$", (ROOT / "Procfile").read_text(), re.MULTILINE)
    commands = {name: section(FOLDER / f"coupons-{name}.service", "Service")["ExecStart"] for name, _ in programs}

    assert sorted(f"coupons-{name}.service" for name, _ in programs) == SERVICES
    assert {name: command.partition(" --")[0] for name, command in commands.items()} == {
        name: f"{PLACE}/{command}" for name, command in programs
    }


@pytest.mark.parametrize("name", SERVICES)
def test_options_of_a_unit_s_command_are_the_command_s(name: str) -> None:
    words = section(FOLDER / name, "Service")["ExecStart"].split()
    if words[0] == f"{PLACE}/bin/web":
        return
    _, _, command, *options = words
    load_command_class(get_commands()[command], command).create_parser("manage.py", command).parse_args(options)


def test_a_stop_reaches_the_main_process_alone() -> None:
    assert COMMON["KillMode"] == "mixed"


def test_the_units_set_only_variables_that_something_reads() -> None:
    text = "".join(file.read_text() for file in FOLDER.rglob("*.*") if file.is_file())
    read = (ROOT / "docs" / "settings.md").read_text()
    names = set(re.findall(r"\b(COUPON_\w+)=", text))

    assert "COUPON_ENV_FILE" in names
    assert all(f"`{name}`" in read for name in names)


@pytest.mark.system
@pytest.mark.parametrize("name", [*SERVICES, "coupons.target"])
def test_systemd_understands_the_unit(installed: Path, name: str) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", str(installed / name)], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.system
@pytest.mark.parametrize("name", SERVICES)
def test_a_unit_leaves_little_open(installed: Path, name: str) -> None:
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", f"--threshold={MOST_EXPOSED}"]

    done = subprocess.run([*command, str(installed / name)], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
