"""Trees and messages: what a script says becomes that message, or an error with its path."""

import math
import random

import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor
from llmspell.v1 import rag_pb2, state_pb2, types_pb2, vector_pb2

from services.common.access import METHODS
from services.common.errors import Reason, ServiceError
from services.common.limits import VALUE_DEPTH_MAX
from services.runtime.marshal import fill, read

MESSAGES = {
    descriptor.full_name: message_factory.GetMessageClass(descriptor)
    for method in METHODS.values()
    for descriptor in (method.descriptor.input_type, method.descriptor.output_type)
}
TEXTS = ("", "a", "käse", "漢字\x00", "💥" * 50)
SCALARS = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 0, 1, 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 0, 1, 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 1, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 1, 2**64 - 1),
    FieldDescriptor.TYPE_DOUBLE: (0.0, -1.5, 1e300, 5e-324),
    FieldDescriptor.TYPE_FLOAT: (0.0, -1.5, 2.0**100),
    FieldDescriptor.TYPE_BOOL: (True, False),
    FieldDescriptor.TYPE_BYTES: (b"", b"\x00\xff", b"abc"),
    FieldDescriptor.TYPE_STRING: TEXTS,
}


class Grower:
    """Makes trees for a message by its descriptor, as a script could write them."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def tree(self, descriptor, depth=0):
        plain = PLAIN.get(descriptor.full_name)
        if plain is not None:
            return plain(self, depth)
        tree, taken = {}, set()
        for field in descriptor.fields:
            choice = field.containing_oneof.name if field.containing_oneof else field.name
            if choice in taken or self.random.random() < 0.3 or depth > 6:
                continue
            taken.add(choice)
            tree[field.name] = self.field(field, depth)
        return tree

    def field(self, field, depth):
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            entry = field.message_type.fields_by_name["value"]
            names = self.random.sample(TEXTS, self.random.randrange(3))
            return {name: self.one(entry, depth) for name in names}
        if field.is_repeated:
            return [self.one(field, depth) for _ in range(self.random.randrange(3))]
        return self.one(field, depth)

    def one(self, field, depth):
        if field.message_type is not None:
            return self.tree(field.message_type, depth + 1)
        if field.enum_type is not None:
            prefix = field.enum_type.values[0].name.removesuffix("UNSPECIFIED")
            return self.random.choice(field.enum_type.values[1:]).name.removeprefix(prefix)
        return self.random.choice(SCALARS[field.type])

    def value(self, depth):
        makers = (
            lambda: None,
            lambda: self.random.random() < 0.5,
            lambda: self.random.choice([0, -(2**63), 2**63 - 1]),
            lambda: self.random.choice([0.0, 3.0, -1e300]),
            lambda: self.random.choice(TEXTS),
            lambda: b"\x00\xff",
            lambda: [self.value(depth + 1) for _ in range(self.random.randrange(3))],
            lambda: {text: self.value(depth + 1) for text in TEXTS[:2]},
        )
        return self.random.choice(makers[:6] if depth > 5 else makers)()


PLAIN = {
    "llmspell.v1.Value": Grower.value,
    "llmspell.v1.ListValue": lambda grower, depth: [grower.value(depth + 1)],
    "llmspell.v1.MapValue": lambda grower, depth: {"a": grower.value(depth + 1)},
    "llmspell.v1.Vector": lambda grower, _: grower.random.choice([[], [1.0, -2.5, 0.0]]),
    "google.protobuf.Timestamp": lambda grower, _: grower.random.choice([0.0, 1.5, 1e9]),
    "google.protobuf.Duration": lambda grower, _: grower.random.choice([0.0, 0.25, 1e6]),
}


def filled(kind, tree):
    message = kind()
    fill(message, tree)
    return message


def contained(small, large):
    """Whether everything that was said is in what came back."""
    if isinstance(small, dict) and isinstance(large, dict):
        return all(
            contained(value, large[name]) if name in large else value is None or value in ({}, [])
            for name, value in small.items()
        )
    if isinstance(small, list) and isinstance(large, list):
        return len(small) == len(large) and all(map(contained, small, large))
    return type(small) is type(large) and small == large


@pytest.mark.parametrize("name", MESSAGES)
def test_every_message_of_the_contract_goes_round(name):
    """Each request and response, with all kinds of content: tree → message → bytes → tree."""
    kind = MESSAGES[name]
    for seed in range(40):
        tree = Grower(f"{name}{seed}").tree(kind.DESCRIPTOR)
        message = filled(kind, tree)
        again = kind.FromString(message.SerializeToString())
        assert again == message
        back = read(again)
        assert contained(tree, back), (tree, back)


@pytest.mark.parametrize("name", MESSAGES)
def test_an_unknown_field_is_named_everywhere(name):
    """No message takes a field that it does not have."""
    error = refused(MESSAGES[name], {"emperor": 1})
    assert error.metadata["field"] == "emperor"
    assert error.message == "emperor is not a field of this call."


def refused(kind, tree):
    with pytest.raises(ServiceError) as caught:
        filled(kind, tree)
    assert caught.value.reason == Reason.FIELD_INVALID
    return caught.value


SET, LIST = state_pb2.SetStateRequest, state_pb2.ListStateRequest
BATCH, RETRIEVE = state_pb2.BatchStateRequest, rag_pb2.RetrieveDocumentsRequest
RECORDS = vector_pb2.UpsertVectorsRequest


@pytest.mark.parametrize(
    ("kind", "tree", "field", "words"),
    [
        (SET, None, "the argument", "a table, not nil"),
        (SET, [], "the argument", "a table, not a list"),
        (SET, "x", "the argument", "a table, not text"),
        (SET, {"key": 5}, "key", "UTF-8 text, not a number"),
        (SET, {"key": b"\xff"}, "key", "UTF-8 text, not bytes"),
        (SET, {"key": True}, "key", "UTF-8 text, not a boolean"),
        (SET, {"key": {}}, "key", "UTF-8 text, not a table"),
        (SET, {"value": 5}, "value", "a table, not a number"),
        (SET, {"value": {"json": 5}}, "value.json", "UTF-8 text, not a number"),
        (SET, {"value": {"raw": 5}}, "value.raw", "bytes, not a number"),
        (SET, {"value": {"zzz": 5}}, "value.zzz", "not a field"),
        (SET, {"ttl": "1"}, "ttl", "a finite number, not text"),
        (SET, {"ttl": math.nan}, "ttl", "a finite number"),
        (SET, {"ttl": math.inf}, "ttl", "a finite number"),
        (SET, {"ttl": 1e300}, "ttl", "at most"),
        (SET, {"ttl": True}, "ttl", "a finite number, not a boolean"),
        (LIST, {"page_size": 1.5}, "page_size", "a whole number"),
        (LIST, {"page_size": "5"}, "page_size", "a whole number, not text"),
        (LIST, {"page_size": True}, "page_size", "a whole number, not a boolean"),
        (LIST, {"page_size": 2**31}, "page_size", "between -2147483648 and 2147483647"),
        (LIST, {"page_size": 1e300}, "page_size", "between"),
        (LIST, {"page_size": math.nan}, "page_size", "a whole number"),
        (LIST, {"page_size": -math.inf}, "page_size", "a whole number"),
        (LIST, {"keys_only": 1}, "keys_only", "a boolean, not a number"),
        (LIST, {"keys_only": "true"}, "keys_only", "a boolean, not text"),
        (BATCH, {"writes": 5}, "writes", "a list, not a number"),
        (BATCH, {"writes": {"a": 1}}, "writes", "a list, not a table"),
        (BATCH, {"writes": [{}, 5]}, "writes[2]", "a table, not a number"),
        (BATCH, {"writes": [{"key": 5}]}, "writes[1].key", "UTF-8 text"),
        (RECORDS, {"records": [{"vector": {"x": 1}}]}, "records[1].vector", "a list of numbers"),
        (RECORDS, {"records": [{"vector": [1, "x"]}]}, "records[1].vector[2]", "a finite number"),
        (RECORDS, {"records": [{"vector": [math.nan]}]}, "records[1].vector[1]", "finite"),
        (RECORDS, {"records": [{"vector": [1e39]}]}, "records[1].vector[1]", "between -3.4"),
        (RECORDS, {"records": [{"metadata": [1]}]}, "records[1].metadata", "text keys"),
        (RECORDS, {"records": [{"metadata": {"a": math.nan}}]}, "records[1].metadata.a", "finite"),
        (RECORDS, {"records": [{"metadata": {"a": 2**63}}]}, "records[1].metadata.a", "kept"),
    ],
)
def test_a_wrong_value_is_named_by_its_path(kind, tree, field, words):
    """Path as Lua writes it, what it must be, what it is."""
    error = refused(kind, tree)
    assert error.metadata["field"] == field
    assert words in error.message


def test_what_is_nil_is_absent():
    """A field set to nil is as if it had not been named."""
    assert filled(SET, {"key": "k", "value": None, "ttl": None}) == SET(key="k")


def test_an_empty_table_is_a_list_and_a_map():
    """Lua has one table for both."""
    assert filled(BATCH, {"writes": {}}) == BATCH()
    assert filled(RECORDS, {"records": [{"metadata": {}}]}).records[0].metadata == {}


def test_a_whole_number_may_come_as_a_float():
    """In Lua 10/2 is 5.0."""
    assert filled(LIST, {"page_size": 5.0}).page_size == 5
    assert filled(LIST, {"page_size": -0.0}).page_size == 0


def test_of_two_that_exclude_each_other_one_is_too_many():
    """Which would win hangs on the order of a Lua table, which there is none (found in review)."""
    error = refused(SET, {"value": {"json": "1", "text": "1"}})
    assert "cannot be set together with" in error.message
    error = refused(SET, {"precondition": {"absent": True, "revision": 3}})
    assert error.metadata["field"].startswith("precondition.")


def test_the_same_optional_field_is_no_choice():
    """A field that may be absent is not taken for one of several."""
    request = filled(RETRIEVE, {"score_threshold": 0.5})
    assert read(request)["score_threshold"] == 0.5


@pytest.mark.parametrize("text", ["COSINE", "cosine", "Cosine"])
def test_an_enum_is_its_name(text):
    """Without the prefix, in any case; it comes back in capitals."""
    kind = vector_pb2.CreateCollectionRequest
    message = filled(kind, {"metric": text})
    assert message.metric == vector_pb2.METRIC_COSINE
    assert read(message)["metric"] == "COSINE"


@pytest.mark.parametrize(
    "value", ["", "UNSPECIFIED", "METRIC_COSINE", 1, True, [], {}, b"COSINE", "x" * 100_000]
)
def test_what_is_no_name_of_an_enum_is_refused(value):
    """Neither a number nor `unspecified`; the error lists what there is."""
    error = refused(vector_pb2.CreateCollectionRequest, {"metric": value})
    assert error.metadata["field"] == "metric"
    assert "cosine" in error.message
    assert len(error.message) < 200


def test_times_are_seconds_or_text():
    """Unix seconds with a fraction, or RFC 3339."""
    kind = rag_pb2.IngestDocumentsRequest
    documents = [{"event_time": 1.5}, {"event_time": "1970-01-01T00:00:01.5Z"}]
    for document in filled(kind, {"documents": documents}).documents:
        assert document.event_time.ToMicroseconds() == 1_500_000
    for wrong in ("yesterday", "", "1970-13-01T00:00:00Z", -1, 1e300, math.nan, [], {}, True):
        error = refused(kind, {"documents": [{"event_time": wrong}]})
        assert error.metadata["field"] == "documents[1].event_time"


def test_a_vector_may_come_as_bytes():
    """Packed float32; and it is always read as numbers."""
    message = types_pb2.Vector()
    fill(message, b"\x00\x00\x80\x3f\x00\x00\x00\x40")
    assert message.f32
    assert read(message) == [1.0, 2.0]


def test_bytes_may_come_as_text():
    """Lua has one string type; where it is UTF-8 the codec sends text."""
    assert filled(SET, {"value": {"raw": "é"}}).value.raw == "é".encode()


@pytest.mark.parametrize("text", ["\ud800", "a\udfff"])
def test_text_that_is_no_utf8_is_an_error_and_no_crash(text):
    """A lone surrogate cannot come out of a frame; should it, it is an error of Unicode."""
    with pytest.raises(UnicodeEncodeError):
        filled(SET, {"key": text})


def nested(levels, *, kind):
    tree = 1
    for _ in range(levels - 1):
        tree = [tree] if kind == "list" else {"a": tree}
    return tree


@pytest.mark.parametrize("kind", ["list", "map"])
def test_values_nest_to_their_limit_and_no_deeper(kind):
    """What is as deep as allowed can be written; one more is refused, and so is far too much."""

    def record(levels):
        return {"records": [{"metadata": {"a": nested(levels, kind=kind)}}]}

    filled(RECORDS, record(VALUE_DEPTH_MAX)).SerializeToString()
    for levels in (VALUE_DEPTH_MAX + 1, 64, 100_000):
        error = refused(RECORDS, record(levels))
        assert error.metadata["field"] == "records[1].metadata.a"
        assert str(VALUE_DEPTH_MAX) in error.message


def test_a_value_keeps_its_type():
    """3 is not 3.0, text is not bytes, false is not nil."""
    tree = [None, True, False, 0, 3, 3.0, -0.0, "", "a", b"", b"\xff", [], {}, {"": [None]}]
    message = types_pb2.Value()
    fill(message, tree)
    back = read(types_pb2.Value.FromString(message.SerializeToString()))
    assert back == tree
    assert [type(entry) for entry in back] == [type(entry) for entry in tree]


def test_what_is_absent_is_left_out_and_what_cannot_be_is_there():
    """A script may index every plain field of an answer."""
    tree = read(state_pb2.GetStateResponse())
    assert tree == {"revision": 0}
    item = read(state_pb2.Item())
    assert item == {"key": "", "revision": 0}
