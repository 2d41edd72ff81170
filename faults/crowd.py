"""Load during faults: new users apply over HTTP at a bounded rate, each until a final answer.

Some users apply again after a promise, and some send two requests at the same time. Shops may use the coupons of those
who got one (shops.py). Every request goes into a history.
There is one user at a time per connection: in an outage the users repeat their requests and no new users come, since
the load would otherwise grow with the outage.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from faults.client import Client, Exchange
from faults.history import HistoryWriter, Request
from faults.http_client import apply_request
from faults.shops import Shops
from faults.tally import Tally
from faults.visits import Habits, Visit, Visits, wait_for


class WaitTimedOut(Exception):
    """The condition did not come true in time; the text lists the answers that the crowd got instead."""


class Crowd:
    """A context manager: users apply while it is open, or between `start` and `stop`. It runs on a thread of its own.

    `addresses` is read again for each connection, so the caller may change that list. A client moves to the next
    address after a broken connection and after ten requests, so a restarted server gets its share. User ids begin with
    `name`, which must differ between crowds of one campaign.
    """

    def __init__(
        self,
        *,
        addresses: Sequence[str],
        campaign_ids: Sequence[object],
        api_key: str,
        history: HistoryWriter | None = None,
        habits: Habits | None = None,
        name: str = "u",
    ) -> None:
        self.addresses = addresses
        self.campaign_ids = [str(campaign_id) for campaign_id in campaign_ids]
        self.api_key = api_key
        self.history = history or HistoryWriter.temporary()
        self.habits = habits or Habits()
        self.tally = Tally()
        self.keep_history = False  # a check that finds a violation sets it
        self._name = name
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name=f"crowd-{name}", daemon=True)
        self._started = threading.Event()

    # --- for the caller's thread ---

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(within_sec=0.0 if error else 10.0)

    def start(self) -> Self:
        self._thread.start()
        self._started.wait()
        return self

    def stop(self, *, within_sec: float = 10.0) -> None:
        """Lets no new users come. Users who have begun continue until a final answer, for `within_sec` at most.

        The history has every request when this returns. May be called again.
        """
        if self._thread.is_alive():
            self._set_from_thread(self._closing)
            self._thread.join(within_sec)
        if self._thread.is_alive():
            self._set_from_thread(self._stop_now)
            self._thread.join(self.habits.request_timeout_sec + 20)
        if self._thread.is_alive():
            raise WaitTimedOut("the crowd does not end")

    def close(self) -> None:
        """Stops, and removes the history unless `keep_history` is set."""
        self.stop(within_sec=0)
        self.history.close()
        if not self.keep_history:
            self.path.unlink(missing_ok=True)

    @property
    def path(self) -> Path:
        """The file of the history."""
        return self.history.path

    @property
    def promised(self) -> int:
        """Users who were promised a coupon."""
        return self.tally.promised

    @property
    def answers(self) -> Counter[tuple[int, str]]:
        """How often each (status, code) was the answer; status 0 = no answer."""
        return self.tally.copy()

    def promises(self, campaign_id: object) -> dict[str, int]:
        """Maps each user to the first promised sequence."""
        return self.tally.promises(str(campaign_id))

    def wait_for_promises(
        self, when: str = "", *, users: int = 30, campaign_id: object = None, within_sec: float = 60.0
    ) -> None:
        """Waits until `users` more users are promised a coupon of this campaign, or of any. Raises WaitTimedOut."""
        named = None if campaign_id is None else str(campaign_id)
        before = self.tally.promised_of(named)
        self.wait_until(
            lambda: self.tally.promised_of(named) >= before + users,
            within_sec=within_sec,
            what=lambda: (
                f"{self.tally.promised_of(named) - before} of {users} more users were promised a coupon {when}"
            ),
        )

    def wait_for_answers(self, status: int, code: str = "", *, times: int = 20, within_sec: float = 60.0) -> None:
        """Waits for `times` more of these answers; status 0 matches any code. Raises WaitTimedOut."""
        before = self.tally.count(status, code)
        self.wait_until(
            lambda: self.tally.count(status, code) >= before + times,
            within_sec=within_sec,
            what=lambda: f"{self.tally.count(status, code) - before} of {times} answers were {status} {code}",
        )

    def wait_until(self, condition: Callable[[], bool], *, within_sec: float, what: Callable[[], str]) -> None:
        """Checks the condition after each request. Raises WaitTimedOut, also at once when the crowd has ended."""
        with self.tally.changed:
            deadline = time.monotonic() + within_sec
            while not condition():
                if time.monotonic() > deadline or not self._thread.is_alive():
                    raise WaitTimedOut(f"not within {within_sec:g} s: {what()}; in all {dict(self.tally.answers)}")
                self.tally.changed.wait(0.1)

    def _set_from_thread(self, event: asyncio.Event) -> None:
        with suppress(RuntimeError):  # the loop has just ended
            self._loop.call_soon_threadsafe(event.set)

    # --- on the crowd's thread ---

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing, self._stop_now = asyncio.Event(), asyncio.Event()
        self._visits = Visits(self.campaign_ids, self.habits, self._name, self.tally)
        self._started.set()
        shops = Shops(self._client, self.tally, self.history, self.habits, api_key=self.api_key, name=self._name)
        await asyncio.gather(
            *(self._run_client(number) for number in range(self.habits.connections)),
            *(shops.run(number, self._closing, self._stop_now) for number in range(self.habits.shops)),
        )

    async def _run_client(self, number: int) -> None:
        client, second = self._client(number), self._client(number + 1)
        while (visit := await self._visits.next(self._closing)) is not None:
            if visit.twice:
                await asyncio.gather(self._apply(client, visit), self._apply(second, visit))
            else:
                await self._apply(client, visit)
        client.close()
        second.close()
        await asyncio.sleep(0)  # transports close in the loop's next iteration

    def _client(self, number: int) -> Client:
        return Client(self.addresses, number=number, timeout_sec=self.habits.request_timeout_sec)

    async def _apply(self, client: Client, visit: Visit) -> None:
        began, attempt, final = time.monotonic(), 0, False
        message = partial(
            apply_request,
            path=f"/api/v1/campaigns/{visit.campaign_id}/apply",
            api_key=self.api_key,
            user_id=visit.user_id,
        )
        while not final:
            attempt += 1
            done = await client.send(message)
            request, wait_sec = _request(visit, attempt, done), done.wait_sec
            final = wait_sec is None
            self.history.request(request)
            self.tally.record(request, final=final)
            if wait_sec is None or self._stop_now.is_set() or request.end - began > self.habits.give_up_after_sec:
                break
            await wait_for(self._stop_now, min(wait_sec, self.habits.max_wait_sec))
        self.tally.end_visit(final=final)


def _request(visit: Visit, attempt: int, done: Exchange) -> Request:
    document = done.document
    return Request(
        campaign_id=visit.campaign_id,
        user_id=visit.user_id,
        attempt=attempt,
        start=done.start,
        end=done.end,
        status=done.status,
        code=document.get("code", ""),
        sequence=document.get("sequence"),
        state=str(document.get("status", "")) if 0 < done.status < 400 else "",
        address=done.address,
    )
