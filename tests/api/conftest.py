from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import LazySettings

from coupons.auth import jwt_keys
from tests.support.front import FrontHandler, StillCampaigns
from tests.support.http import Api
from tests.support.issuer import AUDIENCE, ISSUER, Issuer
from tests.support.service import Service

# The first asks both ways by itself; in the second nobody applies, and the front has no part in it.
ASK_ONCE = {"tests.api.test_front", "tests.api.test_health"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """All that ask the service ask it twice: Django's view alone, and behind the front."""
    if "service" in metafunc.fixturenames and metafunc.module.__name__ not in ASK_ONCE:
        metafunc.parametrize("way", ["view", "front"], indirect=True)


@pytest.fixture(autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The way that every `Api` of this test goes, and every web server that it starts."""
    if getattr(request, "param", "view") == "view":
        monkeypatch.setenv("COUPON_FRONT", "0")
        yield
        return
    request.getfixturevalue("service")
    closed, handlers = StillCampaigns(), list[FrontHandler]()

    def make_handler() -> FrontHandler:
        handlers.append(FrontHandler(closed))
        return handlers[-1]

    monkeypatch.setattr(Api, "make_handler", staticmethod(make_handler))
    yield
    for handler in handlers:
        handler.close()
    closed.close()


@pytest.fixture(autouse=True)
def _long_timeouts(request: pytest.FixtureRequest) -> None:
    if "service" in request.fixturenames:
        request.getfixturevalue("long_timeouts")


@pytest.fixture
def api(service: Service) -> Api:
    """The API in this process, on the three real servers."""
    return Api()


@pytest.fixture
def issuer(tmp_path: Path, settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> Issuer:
    """Whose tokens this process takes, with one key; a change in its folder counts at once."""
    monkeypatch.setattr(jwt_keys, "REREAD_SEC", 0)
    settings.JWT_KEYS_DIR, settings.JWT_ISSUER, settings.JWT_AUDIENCE = tmp_path, ISSUER, AUDIENCE
    issuer = Issuer(tmp_path)
    issuer.add("now", "ES256")
    return issuer
