"""Messages that nobody would send: any bytes, and what hypothesis makes of a good one. `make fuzz` asks for more."""

import json
import os

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from coupons.messaging.messages import encode
from tests.support.tickets import TICKET

GOOD = encode(TICKET)
EXAMPLES = int(os.environ.get("FUZZ_MESSAGE_EXAMPLES", "300"))
# these machines are shared: how fast examples are made says nothing
thorough = settings(
    max_examples=EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
)

_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
_names = st.sampled_from(["v", "campaign_id", "user_id", "sequence", "admitted_at", "trace", "epoch", "more"])


@st.composite
def changed_fields(draw: st.DrawFn) -> bytes:
    """A good message in which some members have any value, or are gone."""
    fields = json.loads(GOOD) | draw(st.dictionaries(_names, _values, max_size=4))
    for name in draw(st.sets(_names, max_size=2)):
        fields.pop(name, None)
    return json.dumps(fields).encode()


@st.composite
def changed_bytes(draw: st.DrawFn) -> bytes:
    start, end = draw(st.integers(0, len(GOOD))), draw(st.integers(0, len(GOOD)))
    return GOOD[:start] + draw(st.binary(max_size=20)) + GOOD[end:]


_numbers = st.integers(-1, 10**17).map(str) | st.sampled_from(
    ["0", "01", "1.0", "1e3", "true", str(2**53 - 1), str(2**53)]
)
_texts = st.sampled_from(
    ["", "a", "NULL", "x" * 64, "x" * 65, "x" * 129, "\\u0041", '\\"', "\\n", "é", "\x7f", "\n", "\u2028"]
)


@st.composite
def nearly_as_we_encode(draw: st.DrawFn) -> bytes:
    """Our own form, with values in it that may or may not be."""
    campaign_id = draw(
        st.uuids().map(str) | st.sampled_from([str(TICKET.campaign_id), str(TICKET.campaign_id).upper()])
    )
    year, month, day = draw(st.integers(0, 10_000)), draw(st.integers(0, 13)), draw(st.integers(0, 32))
    hour, minute, second = draw(st.integers(0, 25)), draw(st.integers(0, 61)), draw(st.integers(0, 61))
    end = draw(st.sampled_from(["", ".123", ".5", ".123456"])) + draw(st.sampled_from(["+00:00", "+09:00", "Z", ""]))
    at = f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{end}"
    more = draw(st.sampled_from(["", ',"epoch":3', ',"epoch":03', ',"epoch":-1', ',"v":2', ',"sequence":2', " ", "\n"]))
    return (
        f'{{"v":1,"campaign_id":"{campaign_id}","user_id":"{draw(_texts)}","sequence":{draw(_numbers)},'
        f'"admitted_at":"{at}","trace":"{draw(_texts)}"{more}}}'
    ).encode()


payloads = (
    st.binary(max_size=300)
    | st.text(max_size=100).map(str.encode)
    | changed_fields()
    | changed_bytes()
    | nearly_as_we_encode()
)
