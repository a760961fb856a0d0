"""Values marked as sensitive."""

from services.common.clock import FakeClock
from services.state.items import Items
from services.state.layout import ITEMS
from services.state.layout.items import is_sensitive, item_key
from services.state.model import Encoding, Value
from tests.state_engines import memory_keeper


async def test_the_mark_stays_with_the_value():
    """Small and packed, over an increment; another tenant's unmarked value has none."""
    keeper = memory_keeper(FakeClock())
    items = Items(keeper)
    for key, content in (("small", b"1"), ("large", b"1" * 5000)):
        await items.set("acme", "global", key, Value(Encoding.JSON, content, is_sensitive=True))
        await items.set("globex", "global", key, Value(Encoding.JSON, content))
    await items.increment("acme", "global", "small", 1)
    for tenant, marked in (("acme", True), ("globex", False)):
        for key in ("small", "large"):
            item = (await items.get(tenant, "global", key)).item
            assert item.value.encoding is Encoding.JSON
            assert item.value.is_sensitive is marked
            with keeper.engine.read() as view:
                assert is_sensitive(view.get(ITEMS, item_key(tenant, "global", key))) is marked
