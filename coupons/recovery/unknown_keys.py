"""Looks at a start whether unread messages are signed with a key that is not known here (docs/decisions/0015)."""

from collections.abc import Sequence

from django.core.checks import CheckMessage, Error, Warning  # noqa: A004  Django's own name

from coupons.errors import DATABASE_DOWN, OperatorError, RetryLater
from coupons.models import Campaign
from coupons.recovery.stale import stale_campaigns
from coupons.recovery.unverified import LOOK_SEC, closed_by_unknown_keys, in_words, unread_unverified


def look_at_keys() -> Sequence[CheckMessage]:
    """For `check --deploy`, before the service is started with other keys. Other checks name what is down."""
    try:
        found, not_looked_at = unread_unverified(Campaign.objects.filter(epoch__gt=0), within_sec=LOOK_SEC)
    except (RetryLater, *DATABASE_DOWN):
        return []
    messages: list[CheckMessage] = []
    if any(found.values()):
        text = in_words(each for campaign in found.values() for each in campaign)
        hint = "If Redis is lost before they are read, their campaigns stay closed until the key is named."
        messages.append(Error(f"The topic has unread {text}", hint=hint, id="coupons.E018"))
    if not_looked_at:
        text = f"{not_looked_at} unread messages were not looked at for their keys: there was no time for more."
        messages.append(Warning(text, hint="Look again when the consumer has caught up.", id="coupons.W006"))
    return messages


def refuse_unknown_keys() -> None:
    """Raises OperatorError when Redis is lost and perhaps only messages of an unknown key know what was promised: no
    consumer could go on before an operator has named the key. Where Redis is current, the gate decides about them.

    Raises RetryLater and database errors: then nobody could look.
    """
    for error in closed_by_unknown_keys(stale_campaigns(), within_sec=LOOK_SEC).values():
        raise OperatorError(str(error))
