"""The WSGI application: Django, with its settings checked and its clients made before the first request.

bin/web serves couponsite/asgi.py, which wraps this application. Any WSGI server can serve it alone.
"""

import logging
import multiprocessing
import os
import signal
from collections.abc import Iterable
from functools import partial
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from django.core.wsgi import get_wsgi_application

from coupons.runtime.process import end_with_parent, freeze_imported_objects, refuse_bad_settings, use_web_database

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "couponsite.settings")
logger = logging.getLogger("coupons.web")
IS_WORKER = multiprocessing.parent_process() is not None
"""Of bin/web, which has checked the settings before it started this process."""


def refuse_chunked_bodies(inner: WSGIApplication) -> WSGIApplication:
    """Refuses chunked bodies: they have no CONTENT_LENGTH, so Django would take them for empty."""

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if "HTTP_TRANSFER_ENCODING" not in environ:
            return inner(environ, start_response)
        from coupons.api.problem_responses import body_of
        from coupons.api.problems import CONTENT_TYPE, Code, Problem

        body = body_of(Problem(Code.LENGTH_REQUIRED).document())
        start_response("411 Length Required", [("Content-Type", CONTENT_TYPE), ("Cache-Control", "no-store")])
        return [body, b""]  # two pieces and no length make wsgiref close the connection

    return application


def take_prefix_off(inner: WSGIApplication) -> WSGIApplication:
    """For a WSGI server: the front has done so already."""
    from coupons.runtime.path_prefix import without_prefix

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["PATH_INFO"] = without_prefix(environ.get("PATH_INFO", ""))
        return inner(environ, start_response)

    return application


def warm_up() -> None:
    """Makes this process's clients before the first request, and logs what is missing. The process serves all the same:
    a part may come up later, and until then the answers are 503."""
    from django.conf import settings

    from coupons.admission.campaign_cache import campaign_cache
    from coupons.auth.api_key_cache import api_key_cache
    from coupons.errors import RetryLater
    from coupons.messaging.producer import publisher
    from coupons.messaging.topics import partition_count

    campaign_cache()
    ready = publisher()
    api_key_cache()
    try:
        if partition_count() is None:
            logger.error("web.no_topic topic=%s: manage.py create_topic makes it", settings.TOPIC)
    except RetryLater as error:
        logger.warning("web.no_kafka error=%s", error)
        return
    if not ready.wait_until_ready(settings.KAFKA_REQUEST_TIMEOUT_MS / 1000):
        logger.warning("web.producer_not_ready after=%dms", settings.KAFKA_REQUEST_TIMEOUT_MS)


if IS_WORKER:
    # A server's worker inherits its parent's handlers until the server sets new ones, after this module is loaded. A
    # SIGTERM meanwhile would be lost, and stopping would take the server's whole kill time-out.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_with_parent("web", partial(os.kill, os.getpid(), signal.SIGTERM), parent_pid=os.getppid())

use_web_database()
application: WSGIApplication = refuse_chunked_bodies(take_prefix_off(get_wsgi_application()))
if not IS_WORKER:
    from coupons.admission.scripts import refuse_cluster

    refuse_bad_settings()
    refuse_cluster()
warm_up()
freeze_imported_objects()
