import pytest

from tests.support.fake_consumer import FakeWatch


@pytest.fixture(autouse=True)
def no_broker_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumers.worker.SilenceWatch", FakeWatch)
    FakeWatch.made.clear()
