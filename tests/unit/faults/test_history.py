"""The history's file: every line that was written is read, also when the writer was killed in the middle of one."""

from pathlib import Path

import pytest

from faults.history import (
    STOPPED_ADDRESS,
    BrokenHistory,
    Event,
    History,
    HistoryWriter,
    Request,
    read_history,
)
from faults.history_check import main

ONE = Request(campaign_id="c", user_id="auth0|a", start=1.5, end=2.0, status=202, sequence=1, state="pending")
TWO = Request(campaign_id="c", user_id="b", start=1.5, end=2.0, status=0, code="timeout", attempt=3)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    with HistoryWriter(tmp_path / "history") as history:
        history.request(ONE)
        with history.during("redis restarts", campaign_id="c", how="kill"):
            history.request(TWO)
    found = read_history(tmp_path / "history")
    assert found.requests == [ONE, TWO]
    clock, restart = found.events
    assert clock.what == "clock"
    assert clock.details["wall"] > 1_000_000_000
    assert (restart.what, restart.campaign_id, restart.details) == ("redis restarts", "c", {"how": "kill"})
    assert clock.end <= restart.start <= restart.end


def test_an_event_is_written_also_when_its_block_fails(tmp_path: Path) -> None:
    history = HistoryWriter(tmp_path / "history")
    with history, pytest.raises(ValueError, match="no"), history.during("raise"):
        raise ValueError("no")
    assert [event.what for event in read_history(tmp_path / "history").events] == ["clock", "raise"]


def test_two_writers_append_to_one_file(tmp_path: Path) -> None:
    with HistoryWriter(tmp_path / "history") as one, HistoryWriter(tmp_path / "history") as other:
        one.request(ONE)
        other.request(TWO)
        one.event(Event(what="end", start=3, end=3))
    found = read_history(tmp_path / "history")
    assert (found.requests, len(found.events)) == ([ONE, TWO], 3)


@pytest.mark.parametrize("lost_bytes", [1, 2, 30, 60])
def test_a_torn_last_line_is_skipped(tmp_path: Path, lost_bytes: int) -> None:
    path = tmp_path / "history"
    with HistoryWriter(path) as history:
        history.request(ONE)
        history.request(TWO)
    path.write_bytes(path.read_bytes()[:-lost_bytes])
    assert read_history(path).requests == ([ONE, TWO] if lost_bytes == 1 else [ONE])  # of 1 only the line's end is lost

    with HistoryWriter(path) as history:
        history.request(TWO)
    assert read_history(path).requests == [ONE, TWO]


def test_a_line_that_is_broken_elsewhere_is_no_evidence(tmp_path: Path) -> None:
    path = tmp_path / "history"
    for middle in (b"{", b"{}", b'{"request":{"user":1}}'):
        path.write_bytes(middle + b"\n{}")
        with pytest.raises(BrokenHistory, match="line 1"):
            read_history(path)


def test_a_history_that_cannot_be_read_is_no_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "missing")]) == 2
    assert "history_check: " in capsys.readouterr().err


def test_answers_during_an_event_are_timed() -> None:
    def asked(start: float, end: float, status: int = 503, code: str = "") -> Request:
        return Request(campaign_id="c", user_id="a", start=start, end=end, status=status, code=code)

    requests = [asked(9, 9.5), asked(10, 12), asked(11, 11.5), asked(11, 16, 0, "timeout"), asked(20, 20.1)]
    never_sent = asked(12, 12.1, 0, "no-connection")
    history = History([*requests, never_sent], [Event(what="hang", start=10, end=13), Event(what="x", start=1, end=99)])
    since, until = history.time_of("hang")
    assert history.answer_seconds(since=since, until=until) == [0.5, 2, 5]
    assert len(history.answer_seconds()) == 5


def test_a_web_process_that_was_itself_stopped_is_not_late() -> None:
    """Nobody can answer then; the other server's answers count."""

    def asked(start: float, end: float, address: str) -> Request:
        return Request(campaign_id="c", user_id="a", start=start, end=end, status=202, address=address)

    stopped = Event(what="web-1", start=10, end=15, details={STOPPED_ADDRESS: "http://one"})
    met = [asked(9.5, 15.5, "http://one"), asked(11, 15.2, "http://one")]
    others = [asked(11, 12, "http://two"), asked(8, 8.5, "http://one"), asked(16, 16.25, "http://one")]

    assert History([*met, *others], [stopped]).answer_seconds() == [0.25, 0.5, 1]
