"""docs/deploy/pgbouncer.md asks of the role what every session asks for."""

import re

from django.conf import settings

from tests.support.process import ROOT

PAGE = (ROOT / "docs" / "deploy" / "pgbouncer.md").read_text()


def test_the_role_gets_what_a_session_asks_for() -> None:
    statements = re.findall(r"^ALTER ROLE coupons IN DATABASE coupons SET (\w+) = '(\d+)';$", PAGE, re.MULTILINE)

    assert dict(statements) == settings.WEB_DATABASE["SESSION"]
