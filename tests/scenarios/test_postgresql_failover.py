"""The primary of PostgreSQL dies under load, and its standby is promoted: no promise is lost, nor kept twice, and no
coupon is redeemed twice."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import urllib3

from coupons.models import Redemption
from coupons.runtime.failpoints import REDEMPTION_COMMITTED, REDEMPTION_WRITTEN
from faults.postgres_pair import PostgresPair, execute, value_of
from tests.support.checkout import assert_lives_are_whole, coupon_of, kinds
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


def test_a_redemption_in_a_failover_is_done_once(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is written and not committed when the primary dies; another is committed and not answered."""
    coupons = {point: coupon_of(service) for point in (REDEMPTION_WRITTEN, REDEMPTION_COMMITTED)}
    with Standby(synchronous=True) as standby, ThreadPoolExecutor(2) as pool:
        asked = {}
        for point, coupon in coupons.items():
            service.web(DATABASE_URL=standby.url())  # each stands still as a whole
            body = {"code": coupon.code, "order_ref": "1001"}
            service.arm(point, "stop")
            asked[point] = (service.url, body, pool.submit(service.post_json, "redemptions", body))
            service.wait_for(point)
        service.stack("kill", "postgres")
        standby.link.close()
        standby.promote()
        for point in coupons:
            service.resume(point)
        statuses = {point: answer.result().status for point, (_, _, answer) in asked.items()}
        assert statuses == {REDEMPTION_WRITTEN: 503, REDEMPTION_COMMITTED: 201}

        for point, (url, body, first) in asked.items():
            service.url = url
            again = wait_until(lambda body=body: settled(service, body), what="another answer than 503")  # type: ignore[misc]
            if point == REDEMPTION_COMMITTED:
                assert (again.status, again.json()) == (200, first.result().json())
            else:
                assert again.status == 201
        with monkeypatch.context() as patch:
            standby.take_over_here(patch)
            assert Redemption.objects.count() == 2
            assert all(kinds(coupon) == ["redeemed"] for coupon in coupons.values())
            assert_lives_are_whole()


def settled(service: Service, body: dict[str, str]) -> urllib3.BaseHTTPResponse | None:
    answer = service.post_json("redemptions", body)
    return None if answer.status == 503 else answer
