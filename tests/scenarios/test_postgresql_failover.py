"""The primary of PostgreSQL dies under load, and its standby is promoted: no promise is lost, nor kept twice."""

from contextlib import closing
from pathlib import Path

import pytest

from faults.postgres_pair import PostgresPair, execute, value_of
from tests.support.promises import assert_history_holds, issued
from tests.support.service import Service
from tests.support.standby import Standby
from tests.support.waiting import wait_until

pytestmark = pytest.mark.system


@pytest.mark.parametrize("synchronous", [True, False], ids=["synchronous", "lagging"])
def test_a_promoted_standby_keeps_every_promise(
    service: Service, monkeypatch: pytest.MonkeyPatch, synchronous: bool
) -> None:
    campaign = service.campaign(quantity=20_000)
    with Standby(synchronous=synchronous) as standby:
        _, consumer, _ = service.everything("--concurrency", "1", DATABASE_URL=standby.url())
        crowd = service.crowd(campaign)
        crowd.wait_for_promises("before", users=50)
        if not synchronous:
            standby.link.hold()
            crowd.wait_for_promises("of which the standby never hears", users=50)
        at_least = issued(campaign)
        wait_until(lambda: issued(campaign) > at_least, what="more coupons are issued")
        committed = issued(campaign)

        service.stack("kill", "postgres")
        standby.link.close()
        crowd.wait_for_promises("while nobody writes", users=30)
        has = standby.value(f"SELECT count(*) FROM coupons_coupon WHERE campaign_id = '{campaign.pk}'")  # noqa: S608
        assert (has >= committed) is synchronous, f"{has} of {committed} coupons"
        standby.promote()
        crowd.wait_for_promises("since the promotion", users=50)

        with monkeypatch.context() as patch:
            standby.take_over_here(patch)
            assert_history_holds(crowd, campaigns=[campaign], within_sec=90)
        assert service.run("reconcile_campaigns", DATABASE_URL=standby.url()).exit_code == 0
        assert consumer.stop() == 0


def test_each_of_a_pair_is_promoted_in_turn(transactional_db: None, tmp_path: Path) -> None:
    with closing(PostgresPair(tmp_path)) as pair:
        own, other = pair.primary, pair.standby
        pair.follow()
        execute(own, "CREATE TABLE written (promotion int)")
        for promotion, (primary, lose) in enumerate([(own, own.kill), (other, other.pause), (own, own.stop)]):
            execute(primary, f"INSERT INTO written VALUES ({promotion})")  # noqa: S608
            pair.wait_until_in_step()
            lose()
            pair.promote()
            assert pair.primary is not primary
            assert value_of(pair.primary, "SELECT count(*) FROM written") == promotion + 1
            pair.follow()

    assert value_of(own, "SELECT count(*) FROM written") == 3
    assert other.record() is None
    execute(own, "INSERT INTO written VALUES (3)", "DROP TABLE written")  # it waits for no standby
