"""Writes down which holds have ended. They end by PostgreSQL's clock, and every decision compares the time: only lists
of redemptions depend on this."""

import logging
from collections.abc import Callable
from itertools import takewhile
from uuid import UUID

from django.db import DatabaseError
from django.db.models.functions import Now

from coupons.errors import DATABASE_DOWN, OperatorError, one_line
from coupons.models import Redemption, RedemptionState
from coupons.redemption.overtaken import Overtaken
from coupons.redemption.redeem import lapse_hold

logger = logging.getLogger(__name__)

TIDY_BATCH = 1_000


def tidy_lapsed_holds(*, actor: str, stop: Callable[[], bool] = lambda: False) -> int:
    """Ends the holds whose time is over, each in a transaction of its own, until `stop` returns True. Returns how many.

    A coupon that somebody is at work on is left to the next run. A hold that cannot be ended stops no other;
    OperatorError tells of it at the end. Raises database errors when PostgreSQL is down.
    """
    count, left, errors = 0, set[UUID](), []
    lapsed = Redemption.objects.filter(state=RedemptionState.HELD, hold_until__lte=Now()).order_by("hold_until")
    ids = lapsed.values_list("pk", flat=True)
    while len(left) < TIDY_BATCH and (batch := list(ids.exclude(pk__in=left)[:TIDY_BATCH])) and not stop():
        for redemption_id in takewhile(lambda _: not stop(), batch):
            try:
                done = lapse_hold(redemption_id=redemption_id, actor=actor)
            except DATABASE_DOWN:
                raise
            except (DatabaseError, Overtaken) as error:
                logger.exception("hold.not_ended redemption=%s", redemption_id)
                errors.append(f"{redemption_id}: {one_line(error)}")
                done = False
            count += done
            if not done:
                left.add(redemption_id)
    if errors:
        raise OperatorError(f"{count} holds ended, {len(errors)} could not be; the first: {errors[0]}")
    return count
