"""A web server that loads the application and uses it before it forks, as `gunicorn --preload` would.

    python -m tests.support.prefork_server PORT CAMPAIGN_ID

Before each fork a user applies in the parent, so the parent has a producer with running threads whenever a child is
made. Two children serve HTTP from one socket; one that dies is forked anew. SIGTERM ends all.
"""

import multiprocessing
import os
import signal
import sys
from functools import partial
from itertools import count
from multiprocessing.connection import wait
from types import FrameType
from typing import NoReturn
from uuid import UUID

from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler

from couponsite.wsgi import application

CHILDREN = 2


class Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        """A line for each request would hide the others."""


def main(port: int, campaign_id: UUID) -> None:
    from coupons.api.accept import accept
    from coupons.messaging import producer
    from tests.support.waiting import wait_until

    def promised(user: str) -> bool:
        acceptance = accept(campaign_id=campaign_id, user_id=user, trace="")
        return acceptance is not None and acceptance.ticket is not None

    server = ThreadedWSGIServer(("127.0.0.1", port), Quiet)
    server.set_app(application)
    parents = producer.publisher()

    def serve() -> None:
        whose = "its parent's" if producer.publisher() is parents else "its own"
        assert producer.publisher().wait_until_ready(20)
        print(f"prefork.child pid={os.getpid()} producer={whose}", flush=True)
        server.serve_forever(poll_interval=0.1)

    signal.signal(signal.SIGTERM, end)
    children: list[multiprocessing.process.BaseProcess] = []
    assert parents.wait_until_ready(20)
    for number in count(1):
        wait_until(partial(promised, f"parent-{number}"), what="the parent's user is promised a coupon")
        child = multiprocessing.get_context("fork").Process(target=serve, daemon=True)  # ends with its parent
        child.start()
        children.append(child)
        if len(children) == CHILDREN:
            ready = wait([child.sentinel for child in children])
            for ended in [each for each in children if each.sentinel in ready]:
                ended.join()
                children.remove(ended)


def end(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), UUID(sys.argv[2]))
