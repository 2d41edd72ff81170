"""The search of tests/scenarios/test_nothing_secret.py finds what it is to find."""

import base64
from urllib.parse import quote

import pytest

from tests.support.secrets import Secrets

SECRET = "S3cr3t/with+signs&<'quotes>"


@pytest.mark.parametrize(
    "output",
    [
        SECRET,
        f"before {SECRET} after",
        quote(f"redis://:{SECRET}@host", safe=""),
        SECRET.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("'", "&#x27;"),
        SECRET.encode().hex(),
        *(base64.b64encode(b"{" * before + SECRET.encode() + b"}").decode() for before in range(5)),
        *(base64.urlsafe_b64encode(b"{" * before + SECRET.encode()).decode() for before in range(5)),
    ],
)
def test_a_planted_secret_is_found(output: str) -> None:
    secrets = Secrets()
    secrets.add("the secret", SECRET)
    secrets.note("a log", "nothing", output)

    assert secrets.leaks()
    assert all(leak.startswith("the secret (") and leak.endswith(") in a log") for leak in secrets.leaks())


def test_only_intended_output_is_no_leak() -> None:
    secrets = Secrets()
    secrets.add("shown", SECRET)
    secrets.add("other", "another secret")
    secrets.note("the answer", f"{SECRET} and another secret", but="shown")
    secrets.note("a log", "nothing")

    assert secrets.leaks() == ["other (as it is) in the answer"]
