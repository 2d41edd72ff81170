"""`export_coupons`: the file is whole or not there, and what it prints is not in it."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from coupons.models import AuditEntry, Campaign
from tests.api.test_export import campaign_of, rows_of
from tests.support.commands import run
from tests.support.process import ROOT
from tests.support.service import Service


@pytest.fixture
def campaign(service: Service) -> Campaign:
    return campaign_of(service, "a", "b")


def test_a_file_has_the_codes_and_is_its_owner_s_alone(campaign: Campaign, tmp_path: Path) -> None:
    file = tmp_path / "coupons.csv"
    ran = run("export_coupons", campaign.pk, "--output", file, "--reason", "the shop asks")

    assert (ran.code, ran.out, ran.err) == (0, "", "2 coupons.\n")
    assert all(row["code"] for row in rows_of(file.read_bytes()))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]
    entry = AuditEntry.objects.get(what="Exported the coupons, with codes")
    assert entry.actor.startswith("manage.py:")
    assert entry.reason == "the shop asks"


def test_codes_can_be_left_out_and_coupons_chosen(campaign: Campaign, tmp_path: Path) -> None:
    file = tmp_path / "coupons.csv"
    run("export_coupons", campaign.pk, "--output", file, "--without-codes", "--status", "unused")
    assert [row["code"] for row in rows_of(file.read_bytes())] == ["", ""]

    run("export_coupons", campaign.pk, "--output", file, "--since", "2100-01-01T00:00:00Z")
    assert rows_of(file.read_bytes()) == []


def test_a_former_file_stays_until_the_new_one_is_whole(
    campaign: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "coupons.csv"
    file.write_text("former")
    with monkeypatch.context() as broken:
        broken.setattr("coupons.management.commands.export_coupons.CouponExport.__iter__", _break_off)
        ran = run("export_coupons", campaign.pk, "--output", file)
    assert ran.code == 1
    assert "output: it could not be written: No space left on device." in ran.err
    assert file.read_text() == "former"
    assert list(tmp_path.iterdir()) == [file]

    assert run("export_coupons", campaign.pk, "--output", file).code == 0
    assert len(rows_of(file.read_bytes())) == 2


def _break_off(export: object) -> object:
    yield b"something"
    raise OSError(28, os.strerror(28))


@pytest.mark.parametrize(
    ("output", "said"), [(".", "is no file"), ("/dev/null", "is no file"), ("no/x.csv", "no file")]
)
def test_what_is_no_file_is_refused(campaign: Campaign, tmp_path: Path, output: str, said: str) -> None:
    ran = run("export_coupons", campaign.pk, "--output", tmp_path / output)

    assert ran.code == 1
    assert f"output: {'no file' if said == 'no file' else ''}" in ran.err
    assert said in ran.err
    assert not AuditEntry.objects.filter(what__startswith="Exported").exists()


def test_an_unknown_campaign_is_refused(service: Service, tmp_path: Path) -> None:
    ran = run("export_coupons", "0198c7f2-5b1c-7d3e-9a41-3f6f0c2b7a10", "--output", tmp_path / "x.csv")

    assert (ran.code, "There is no campaign" in ran.err) == (1, True)
    assert not (tmp_path / "x.csv").exists()


def shell(service: Service, command: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        cwd=ROOT,
        env={**service.environment, "PYTHON": sys.executable},
        capture_output=True,
        check=False,
    )


def test_standard_output_has_the_file_and_nothing_else(service: Service, campaign: Campaign) -> None:
    done = shell(service, f"$PYTHON manage.py export_coupons {campaign.pk} --output -")

    assert done.returncode == 0
    assert done.stderr.endswith(b"2 coupons.\n")
    assert len(rows_of(done.stdout)) == 2


def test_an_output_that_was_not_written_is_no_success(service: Service, campaign: Campaign) -> None:
    """What a command prints may be lost; what it exports may not."""
    full = shell(service, f"$PYTHON manage.py export_coupons {campaign.pk} --output - > /dev/full")
    closed = shell(service, f"$PYTHON manage.py export_coupons {campaign.pk} --output - | true")

    assert full.returncode == 1
    assert b"output: it could not be written: No space left on device." in full.stderr
    assert closed.returncode in (0, 1)  # `true` may end after all was written
    if closed.returncode:
        assert b"output: whoever read it has stopped" in closed.stderr
