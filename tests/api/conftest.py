from pathlib import Path

import pytest
from django.conf import LazySettings

from coupons.callers import token_keys
from tests.support.http import Api
from tests.support.issuer import AUDIENCE, ISSUER, Issuer
from tests.support.service import Service


@pytest.fixture
def api(service: Service) -> Api:
    """The API in this process, on the three real servers."""
    return Api()


@pytest.fixture
def issuer(tmp_path: Path, settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> Issuer:
    """Whose tokens this process takes, with one key; a change in its folder counts at once."""
    monkeypatch.setattr(token_keys, "REREAD_SEC", 0)
    settings.JWT_KEYS_DIR, settings.JWT_ISSUER, settings.JWT_AUDIENCE = tmp_path, ISSUER, AUDIENCE
    issuer = Issuer(tmp_path)
    issuer.add("now", "ES256")
    return issuer
