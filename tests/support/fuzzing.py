"""Messages that nobody would send: any bytes, and what hypothesis makes of a good one. `make fuzz` asks for more."""

import json
import os

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from coupons.messaging.messages import encode
from tests.unit.test_messages import TICKET

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


payloads = st.binary(max_size=300) | st.text(max_size=100).map(str.encode) | changed_fields() | changed_bytes()
