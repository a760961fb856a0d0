"""Values marked as sensitive."""

import base64
import json

from services.common.clock import FakeClock
from services.state.backup.item_lines import CHECKPOINT_ITEM, ITEM
from services.state.backup.lines import is_withheld
from services.state.items import Items
from services.state.layout import ITEMS
from services.state.layout.items import is_sensitive, item_key, pack_item
from services.state.model import Encoding, Item, Value
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


def exported(value):
    """An item's line where not all may be told; None where all may."""
    item = Item(key="k", value=value, revision=1, create_time_ns=1, update_time_ns=1)
    stored = pack_item(item)
    line = ITEM.write(ITEM.tell(b"global\0k", stored), in_clear=False)
    kept = CHECKPOINT_ITEM.write(CHECKPOINT_ITEM.tell(b"s\0c1\0k", stored), in_clear=False)
    assert is_withheld(CHECKPOINT_ITEM.read(kept)) == is_withheld(ITEM.read(line))
    return line if is_withheld(ITEM.read(line)) else None


def test_exports_do_not_tell_what_is_sensitive():
    """Nothing of a marked value, however it is kept; an import passes it over."""
    for encoding, content in (
        (Encoding.JSON, b'{"pin": 4711}'),
        (Encoding.TEXT, b"4711"),
        (Encoding.RAW, b"4711"),
    ):
        line = exported(Value(encoding, content, is_sensitive=True))
        assert b"4711" not in line
        assert b'"withheld":true' in line


def test_exports_do_not_tell_what_looks_secret():
    """Credentials by name and by form go, in all encodings; the rest of the value stays."""
    key = "sk-abcdefghijklmnopqrstuvwxyz012345"
    document = f'{{"user": "ann", "password": "hunter2", "note": "use {key}", "tokens": 12}}'
    escaped = document.replace("password", "p\\u0061ssword")
    for encoding, text in (
        (Encoding.JSON, document),
        (Encoding.JSON, escaped),
        (Encoding.TEXT, f"user ann, password=hunter2, {key}"),
    ):
        line = exported(Value(encoding, text.encode()))
        assert key.encode() not in line
        assert b"hunter2" not in line
        assert b"ann" in line
        assert b'"withheld":true' in line
    raw = exported(Value(Encoding.RAW, f"ann password=hunter2 {key}".encode()))
    assert base64.b64decode(json.loads(raw)["raw"]) == b"ann password=[REDACTED] [REDACTED]"
    told = json.loads(json.loads(exported(Value(Encoding.JSON, document.encode())))["json"])
    assert told == {
        "user": "ann", "password": "[REDACTED]", "note": "use [REDACTED]", "tokens": 12
    }  # fmt: skip


def test_exports_withhold_nothing_else():
    """A value without any of that is written as it is."""
    for encoding, content in (
        (Encoding.JSON, b'{ "a" : [1,2.50,"\\u00e9"], "token_count": 12 }'),
        (Encoding.TEXT, "the key to it all: é".encode()),
        (Encoding.RAW, bytes(range(256))),
    ):
        assert exported(Value(encoding, content)) is None
