import pytest


@pytest.fixture(autouse=True)
def answered_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who answers applications, of every web server of the test that does not say so itself."""
    if getattr(request, "param", "front") == "view":
        monkeypatch.setenv("COUPON_FRONT", "false")
