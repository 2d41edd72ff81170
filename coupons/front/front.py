"""The front's entrance: answers applications in the event loop, and hands everything else to Django's threads."""

import logging
from contextlib import suppress
from wsgiref.types import WSGIApplication

from django.conf import settings

from coupons.api.problems import Code, Problem
from coupons.front.answers import NO_STORE, refused, send_answer
from coupons.front.apply import ApplyHandler
from coupons.front.closed_campaigns import closed_campaigns
from coupons.front.django_threads import DjangoThreads
from coupons.front.request import BodyRefused, Receive, Request, Scope, Send

logger = logging.getLogger(__name__)


class Front:
    def __init__(self, django: WSGIApplication) -> None:
        self._django = DjangoThreads(django)
        self._apply_handler: ApplyHandler | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
            return
        request = Request(scope, receive)
        try:
            answer = None if self._apply_handler is None else await self._apply_handler.answer(request)
            if answer is None:
                await request.body()  # before it takes a thread: a slow body must not hold one
        except BodyRefused as error:
            await send_answer(send, refused(error.problem), NO_STORE, (b"connection", b"close"))
            return
        except Exception:
            logger.exception("front.defect path=%s", request.path)
            await send_answer(send, refused(Problem(Code.INTERNAL)), NO_STORE)
        else:
            if answer is None:
                await self._django(request, send)
                return
            await send_answer(send, answer)
        if not request.is_body_read:
            # Otherwise the server closes the connection, and the client's next request gets no answer.
            with suppress(BodyRefused):
                await request.body()

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        """Runs once per event loop: creates and closes the objects that belong to it."""
        await receive()
        if settings.FRONT:
            self._apply_handler = ApplyHandler(closed_campaigns())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if self._apply_handler is not None:
            await self._apply_handler.close()
        await send({"type": "lifespan.shutdown.complete"})
