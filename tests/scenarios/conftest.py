from pathlib import Path

import pytest

# Rows 1 to 13 and 26 of the fault matrix: what a web process does while something else breaks.
ALSO_BY_THE_VIEW = {
    "test_broker_faults",
    "test_links_cut",
    "test_redis_failover",
    "test_redis_faults",
    "test_redis_full",
    "test_redis_loses_data",
    "test_scripts_forgotten",
    "test_web_killed",
    "test_web_stopped",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if Path(metafunc.module.__file__).stem in ALSO_BY_THE_VIEW and "service" in metafunc.fixturenames:
        metafunc.parametrize("answered_by", ["front", "view"], indirect=True)


@pytest.fixture(autouse=True)
def answered_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who answers applications, of every web server of the test that does not say so itself."""
    if getattr(request, "param", "front") == "view":
        monkeypatch.setenv("COUPON_FRONT", "false")
