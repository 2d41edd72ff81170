"""A web server whose processes may be killed one after the other: forked from a parent that has loaded everything.

    python -m tests.support.quick_server PORT

granian takes workers that die soon after their start for a crash loop, and starts each anew from the beginning. One
child at a time serves HTTP here; when it has died, the next is forked from the same socket.
"""

import multiprocessing
import sys

from django.core.servers.basehttp import ThreadedWSGIServer
from django.urls import get_resolver

from couponsite.wsgi import application
from tests.support.prefork_server import Quiet


def main(port: int) -> None:
    assert get_resolver().url_patterns  # imports all that the first request of each child would
    server = ThreadedWSGIServer(("127.0.0.1", port), Quiet)
    server.set_app(application)
    print("quick_server.listens", flush=True)
    while True:
        child = multiprocessing.get_context("fork").Process(target=server.serve_forever, daemon=True)
        child.start()
        child.join()


if __name__ == "__main__":
    main(int(sys.argv[1]))
