"""Campaigns in every state that a healthy service can be in at one moment, made at once: for the verifier's tests."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from django.db import transaction

from coupons.admission import campaign_store, ticket_store
from coupons.admission.keys import CampaignKeys, campaign_keys
from coupons.admission.scripts import admission_redis
from coupons.issuing.failed_events import Failure, give_up_events, record_failures
from coupons.issuing.issue import issue_coupons, settle_tickets
from coupons.issuing.retry import retry_events_now
from coupons.messaging.messages import encode
from coupons.messaging.positions import Position
from coupons.messaging.producer import publisher
from coupons.models import Campaign, Coupon, FailCode, FailEventHistory
from coupons.reconciliation.differences import Kind
from coupons.redemption.redeem import redeem, return_redemption, revoke_coupon
from tests.support.service import Service
from tests.support.tickets import admit, rebuild, ticket, were_read

USED = ("redeemed", "held", "returned", "revoked")
ISSUED = ("issued", *USED)
ONE_EACH = (*USED, "given_up", "retried")
ROLES = (*ISSUED, "failed", "given_up", "retried", "unread", "young")
HOLD_SEC = 3_600
Named = list[tuple[Kind, str]]  # a kind, and how one of its examples begins


@dataclass(slots=True)
class Scene:
    """One campaign. `users` of each role, with their sequences; a corruption takes its victims out of it.

    issued, and read by the group; redeemed, held, returned, revoked = issued, and used since; failed = an open failed
    event holds the ticket; retried = failed once, issued now; unread = published, the group has not come to it; young =
    admitted a moment ago, not published. `missing` are the sequences that nobody holds, and `orphans` what must be
    named of no campaign.
    """

    campaign: Campaign
    chance: Random
    users: dict[str, list[tuple[str, int]]]
    positions: dict[str, Position] = field(default_factory=dict)
    missing: set[int] = field(default_factory=set)
    orphans: Named = field(default_factory=list)

    @property
    def keys(self) -> CampaignKeys:
        return campaign_keys(self.campaign.pk)

    @property
    def rebuilt(self) -> bool:
        return self.campaign.epoch > 1

    def take(self, *roles: str) -> tuple[str, int] | None:
        """Somebody of one of these roles whom no corruption has had yet."""
        found = [role for role in roles if self.users[role]]
        if not found:
            return None
        users = self.users[self.chance.choice(found)]
        return users.pop(self.chance.randrange(len(users)))

    def next_sequence(self) -> int:
        return campaign_store.describe(campaign_id=self.campaign.pk, epoch=self.campaign.epoch).next_sequence


def name(ticket: tuple[str, int]) -> str:
    """As the verifier names it."""
    return f"{ticket[0]} #{ticket[1]}"


def make_scenes(service: Service, count: int, *, seed: str, share_rebuilt: float = 0.2) -> list[Scene]:
    """All of them hold their tickets as the real code makes them; the order of the steps is that of the service."""
    scenes = [_admitted(service, Random(f"{seed}.{number}")) for number in range(count)]
    _publish(scenes, ROLES[:-2])
    were_read(*_last_of_each([position for scene in scenes for position in scene.positions.values()]))
    for scene in scenes:
        _write(scene)
        _use(scene)
    _publish(scenes, ("unread",))
    rebuilt = [scene for scene in scenes if scene.chance.random() < share_rebuilt]
    for scene in rebuilt:
        _forget_one(scene)
    rebuild(*(scene.campaign for scene in rebuilt))
    for scene in scenes:
        scene.campaign.refresh_from_db()
    return scenes


def _admitted(service: Service, chance: Random) -> Scene:
    campaign = service.campaign(chance.randint(30, 60))
    roles = [role for role in ROLES for _ in range(1 if role in ONE_EACH else chance.randint(1, 3))]
    chance.shuffle(roles)
    names = [f"{role}-{number}" for number, role in enumerate(roles)]
    scene = Scene(campaign, chance, {role: [] for role in ROLES})
    for role, name, sequence in zip(roles, names, admit(campaign, *names), strict=True):
        scene.users[role].append((name, sequence))
    return scene


def _publish(scenes: Sequence[Scene], roles: Sequence[str]) -> None:
    sent = [
        (scene, user_id, publisher().publish(ticket(scene.campaign, user_id, sequence)))
        for scene in scenes
        for role in roles
        for user_id, sequence in scene.users[role]
    ]
    for scene, user_id, delivery in sent:
        position = delivery.result(20)
        assert position is not None
        scene.positions[user_id] = position
    for scene in scenes:
        mine = {place: scene.positions[place[0]] for role in roles for place in scene.users[role]}
        scene.campaign.refresh_from_db()
        ticket_store.mark_published(campaign_id=scene.campaign.pk, epoch=scene.campaign.epoch, positions=mine)


def _last_of_each(positions: Sequence[Position]) -> list[Position]:
    """Of each partition, since a commit goes backwards too."""
    return list({position.partition: position for position in sorted(positions)}.values())


def _write(scene: Scene) -> None:
    campaign, users = scene.campaign, scene.users
    failing = [*users["failed"], *users["given_up"], *users["retried"]]
    with transaction.atomic():
        result = issue_coupons([ticket(campaign, *each) for role in ISSUED for each in users[role]])
        record_failures([_failure(scene, *each) for each in failing])
    settle_tickets(result)
    ticket_store.settle(epochs={campaign.pk: campaign.epoch}, users={campaign.pk: [user_id for user_id, _ in failing]})
    events = dict(FailEventHistory.objects.filter(campaign=campaign).values_list("user_id", "pk"))
    give_up_events(event_ids=[events[user_id] for user_id, _ in users["given_up"]], actor="test", reason="test")
    report = retry_events_now(event_ids=[events[user_id] for user_id, _ in users["retried"]], actor="test")
    assert report.succeeded == len(users["retried"])


def _use(scene: Scene) -> None:
    caller: Any = {"actor": "test", "may_touch": lambda campaign_id: True}
    codes = dict(Coupon.objects.filter(campaign=scene.campaign).values_list("user_id", "code"))
    for role in USED:
        for user_id, _ in scene.users[role]:
            order: Any = {"code": codes[user_id], "order_ref": f"of {user_id}", "user_id": user_id, **caller}
            if role == "revoked":
                revoke_coupon(code=codes[user_id], reason="test", **caller)
                continue
            use = redeem(hold_sec=HOLD_SEC if role == "held" else None, **order).use
            if role == "returned":
                return_redemption(redemption_id=use.id, reason="test", **caller)


def _failure(scene: Scene, user_id: str, sequence: int) -> Failure:
    named = {"campaign_id": str(scene.campaign.pk), "user_id": user_id, "sequence": sequence}
    payload = encode(ticket(scene.campaign, user_id, sequence))
    position = scene.positions[user_id]
    return Failure(
        FailCode.DATABASE_REFUSED, "made by a test", payload, "t", position.partition, position.offset, named
    )


def _forget_one(scene: Scene) -> None:
    """Redis loses a ticket that nobody was promised: the rebuild that follows leaves a hole."""
    taken = scene.take("young")
    assert taken is not None
    user_id, sequence = taken
    admission_redis().hdel(scene.keys.tickets, user_id)
    scene.missing.add(sequence)
