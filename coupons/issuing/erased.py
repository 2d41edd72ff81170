"""Recognises users who were erased (coupons/erasing/), by a digest: nothing here stores their ids.

A message of the topic, or an older copy of Redis, may still name such a user. Whoever reads one asks here, and takes
the pseudonym's rows for the user's.
"""

import hmac
from collections.abc import Collection
from uuid import UUID

from coupons.models import ErasedTicket
from coupons.redemption.codes import secret_of


class ErasedUsers:
    """The erased users of one campaign: digest -> pseudonym, for each code key that made digests."""

    def __init__(self, campaign_id: UUID) -> None:
        self._campaign_id = campaign_id
        self._pseudonyms: dict[str, dict[str, str]] = {}

    def add(self, code_key: str, digest: str, pseudonym: str) -> None:
        self._pseudonyms.setdefault(code_key, {})[digest] = pseudonym

    def __contains__(self, user_id: object) -> bool:
        return isinstance(user_id, str) and self.current_id(user_id) != user_id

    def current_id(self, user_id: str) -> str:
        """Returns the pseudonym of an erased user, and any other id as it is. Raises UnknownCodeKey."""
        for code_key, pseudonyms in self._pseudonyms.items():
            if (pseudonym := pseudonyms.get(digest_of(self._campaign_id, user_id, code_key))) is not None:
                return pseudonym
        return user_id


def erased_users(campaign_ids: Collection[UUID]) -> dict[UUID, ErasedUsers]:
    """Returns those of the campaigns that have any."""
    found: dict[UUID, ErasedUsers] = {}
    rows = ErasedTicket.objects.filter(campaign_id__in=campaign_ids)
    for campaign_id, *row in rows.values_list("campaign_id", "code_key", "digest", "pseudonym"):
        found.setdefault(campaign_id, ErasedUsers(campaign_id)).add(*row)
    return found


def digest_of(campaign_id: UUID, user_id: str, code_key: str) -> str:
    """Keyed, since ids can be guessed one by one; and by campaign, so that two of a user's tickets have nothing in
    common. Raises UnknownCodeKey."""
    text = f"erased user {campaign_id} {user_id}"  # no coupon's code is made of such a text (redemption/codes.py)
    return hmac.digest(secret_of(code_key), text.encode(), "sha256").hex()
