"""docs/deploy/security.md as a test follows it: its lines, with the test's hosts, folder and password in them."""

import re
from collections.abc import Mapping
from pathlib import Path

from couponsite.env_file import parse
from tests.support.process import ROOT
from tests.support.secure_servers import PASSWORD

TEXT = (ROOT / "docs" / "deploy" / "security.md").read_text()
FOLDER = "/etc/coupons"


def acl() -> str:
    """What the document puts into redis.conf."""
    (block,) = re.findall(r"^```redis\n(.*?)\n```", TEXT, flags=re.DOTALL | re.MULTILINE)
    return replaced(block, {"PASSWORD": PASSWORD})


def with_password(folder: Path, addresses: Mapping[str, str]) -> dict[str, str]:
    return _settings(0, folder, addresses)


def with_certificate(folder: Path, addresses: Mapping[str, str]) -> dict[str, str]:
    return _settings(1, folder, addresses)


def _settings(number: int, folder: Path, addresses: Mapping[str, str]) -> dict[str, str]:
    """`addresses`: host:port of the document -> ours."""
    block = re.findall(r"^```sh\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)[number]
    settings = replaced(block, {**addresses, FOLDER: str(folder), "PASSWORD": PASSWORD})
    assert "example.test" not in settings
    return parse(settings)


def replaced(text: str, words: Mapping[str, str]) -> str:
    for old, new in words.items():
        assert old in text, f"the document no longer says {old}"
        text = text.replace(old, new)
    return text
