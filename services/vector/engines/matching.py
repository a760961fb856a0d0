"""A filter over postings: all labels that match, no more and no fewer.

What sets cannot tell (one entry of a list that passes several tests, very long texts, records with
very many terms) they narrow down, and the rest is looked at.
"""

from __future__ import annotations

from pyroaring import BitMap64

from services.common.store import View
from services.vector.engines import postings, terms
from services.vector.engines.postings import ReadMetadata
from services.vector.model import (
    All,
    AnyOf,
    AtLeast,
    Condition,
    Equals,
    Except,
    Exists,
    Filter,
    In,
    IsEmpty,
    Moment,
    Nested,
    Not,
    Prefix,
    Range,
    Test,
    Value,
)

_SECOND_NS = 10**9
_MOMENT_MAX = 2**63 - 1
"""What `parse_moment` takes for a moment lies within this of 1970."""
_EVERY = "[]"


def matching(view: View, namespace: int, where: Filter, *, read_metadata: ReadMetadata) -> BitMap64:
    """Labels of the living records of a namespace that match."""
    return _Matching(view, namespace, read_metadata).all(where)


class _Matching:
    def __init__(self, view: View, namespace: int, read_metadata: ReadMetadata) -> None:
        self._view = view
        self._namespace = namespace
        self._read = read_metadata
        self._many = postings.many(view, namespace)
        self._universe = postings.living(view, namespace) - self._many
        """Records that are found by their terms."""

    def all(self, where: Filter) -> BitMap64:
        """What terms find, and those that have too many of them, looked at."""
        return self.find(where) | postings.verified(self._many, where, self._read)

    def find(self, where: Filter) -> BitMap64:
        """Within the universe."""
        match where:
            case Condition(field, test):
                return self._condition(field, test)
            case All(filters):
                return self._every(filters)
            case AnyOf(filters):
                return BitMap64().union(*map(self.find, filters))
            case Not(part):
                return self._universe - self.find(part)
            case AtLeast(count, filters):
                return self._at_least(count, filters)
            case Nested():
                return self._nested(where)

    def _every(self, filters: tuple[Filter, ...]) -> BitMap64:
        found = self._universe
        for part in filters:
            if not found:
                break
            found = found & self.find(part)
        return found

    def _at_least(self, count: int, filters: tuple[Filter, ...]) -> BitMap64:
        """`reached[n]` has what n + 1 filters have let through so far."""
        reached = [BitMap64() for _ in range(count)]
        for part in filters:
            found = self.find(part)
            for above in range(count - 1, 0, -1):
                reached[above] |= reached[above - 1] & found
            reached[0] |= found
        return reached[-1]

    def _nested(self, where: Nested) -> BitMap64:
        """One entry must pass all: where each test is passed by some entry, it is looked at."""
        if where.field.endswith(_EVERY):  # maps in lists of lists have no terms of their own
            held = self._present(where.field.removesuffix(_EVERY))
            return postings.verified(held, where, self._read)
        parts = where.filter.filters if isinstance(where.filter, All) else (where.filter,)
        found = self._present(where.field)
        sure = len(parts) == 1
        for part in parts:
            if isinstance(part, Condition) and _is_of_one_value(part.test):
                found &= self._in_some_entry(where.field, part)
            else:
                sure = False
        return found if sure else postings.verified(found, where, self._read)

    def _in_some_entry(self, field: str, part: Condition) -> BitMap64:
        """Where the maps under a field, or the one map, together pass a test of one value."""
        of_one = self.find(Condition(f"{field}.{part.field}", part.test))
        return of_one | self.find(Condition(f"{field}{_EVERY}.{part.field}", part.test))

    def _present(self, path: str) -> BitMap64:
        return self._term(terms.field_key(path) + terms.PRESENT)

    def _condition(self, path: str, test: Test) -> BitMap64:
        if path.endswith(_EVERY):
            return self._looked_at(path, test)
        field = terms.field_key(path)
        match test:
            case Exists() | IsEmpty() | Except():
                return self._of_field(field, path, test)
            case Equals(value):
                return self._equal(field, value)
            case In(values):
                return BitMap64().union(*(self._equal(field, value) for value in values))
            case Prefix(text):
                return self._with_prefix(field, path, test, text)
            case Range() | Moment():
                bounded = self._range if isinstance(test, Range) else self._moment
                return bounded(field, path, test)  # type: ignore[arg-type]

    def _of_field(self, field: bytes, path: str, test: Exists | IsEmpty | Except) -> BitMap64:
        """Tests that look at the field and not at one value."""
        present = self._term(field + terms.PRESENT)
        match test:
            case Exists(wanted):
                return present if wanted else self._universe - present
            case IsEmpty(wanted):
                filled = self._term(field + terms.FILLED)
                return self._universe - filled if wanted else filled
            case Except(values):
                return present - self._condition(path, In(values))

    def _looked_at(self, path: str, test: Test) -> BitMap64:
        """`list[]` itself has no terms."""
        where = Condition(path, test)
        if _holds_for_absent(test):
            return postings.verified(self._universe, where, self._read)
        return postings.verified(self._present(path.removesuffix(_EVERY)), where, self._read)

    def _equal(self, field: bytes, value: Value) -> BitMap64:
        if isinstance(value, bool):
            return self._term(field + terms.BOOLEAN + bytes([value]))
        if isinstance(value, int | float):
            return self._term(field + terms.NUMBER + terms.number_key(value))
        if isinstance(value, str):
            text = terms.text_key(value)
            if len(text) <= terms.TEXT_BYTES_MAX:
                return self._term(field + terms.TEXT + text + terms.TEXT_END)
        return self._term(field + terms.DIGEST + terms.digest_of(value))

    def _with_prefix(self, field: bytes, path: str, test: Test, text: str) -> BitMap64:
        key = terms.text_key(text)
        found = BitMap64()
        if len(key) <= terms.TEXT_BYTES_MAX:
            found = self._term(field + terms.TEXT + key)
        near = self._term(field + terms.LONG + key[: terms.LONG_BYTES])
        return found | self._verified(near - found, path, test)

    def _verified(self, labels: BitMap64, path: str, test: Test) -> BitMap64:
        return postings.verified(labels, Condition(path, test), self._read)

    def _range(self, field: bytes, path: str, test: Range) -> BitMap64:
        bounds = dict(test.bounds())
        low, high = bounds.get("gte", bounds.get("gt")), bounds.get("lte", bounds.get("lt"))
        if isinstance(low if low is not None else high, str):
            found = self._text_range(field, bounds)
            return found | self._verified(self._long_range(field, bounds) - found, path, test)
        return self._numbers(field, bounds)

    def _text_range(self, field: bytes, bounds: dict[str, Value]) -> BitMap64:
        start, stop = b"", b"\xff"
        for name, bound in bounds.items():
            key = terms.text_key(str(bound)) + terms.TEXT_END
            after = key + b"\xff"  # no block number begins so
            if name in {"gt", "gte"}:
                start = max(start, after if name == "gt" else key)
            else:
                stop = min(stop, key if name == "lt" else after)
        return self._between(field + terms.TEXT, start, stop)

    def _long_range(self, field: bytes, bounds: dict[str, Value]) -> BitMap64:
        """Long texts whose beginning lies within the beginnings of the bounds."""
        start, stop = b"", b"\xff"
        for name, bound in bounds.items():
            key = terms.long_key(str(bound))
            if name in {"gt", "gte"}:
                start = max(start, key)
            else:
                stop = min(stop, key + b"\xff")
        return self._between(field + terms.LONG, start, stop)

    def _numbers(self, field: bytes, bounds: dict[str, Value]) -> BitMap64:
        """Amounts within bounds."""
        first, last = bytes(10), b"\xff" * 10
        for name, bound in bounds.items():
            key = terms.number_key(bound)  # type: ignore[arg-type]  # `check_filter` has seen it
            if name in {"gt", "gte"}:
                first = max(first, _next(key) if name == "gt" else key)
            else:
                last = min(last, _before(key) if name == "lt" else key)
        return self._tree(field, terms.NUMBER, terms.NUMBERS, first, last)

    def _moment(self, field: bytes, path: str, test: Moment) -> BitMap64:
        first, last = _ends(test)
        if first > last:
            return BitMap64()
        keys = terms.moment_key(first), terms.moment_key(last)
        found = self._tree(field, terms.MOMENT, terms.MOMENTS, *keys)
        return found | self._seconds(field, path, test, first, last)

    def _seconds(self, field: bytes, path: str, test: Moment, first: int, last: int) -> BitMap64:
        """Numbers that count as moments: sure a second inside the bounds, looked at near them."""
        low, high = first // _SECOND_NS, last // _SECOND_NS
        if low + 2 > high - 2:
            near = self._numbers(field, {"gte": low - 1, "lte": high + 2})
            return self._verified(near, path, test)
        sure = self._numbers(field, {"gte": low + 2, "lte": high - 2})
        near = self._numbers(field, {"gte": low - 1, "lt": low + 2})
        near |= self._numbers(field, {"gt": high - 2, "lte": high + 2})
        return sure | self._verified(near - sure, path, test)

    def _tree(
        self, field: bytes, fine: bytes, coarse: bytes, first: bytes, last: bytes
    ) -> BitMap64:
        """Keys from `first` to `last`, both included: coarse where whole, fine at the edges."""
        if first > last:
            return BitMap64()
        return self._level(field, fine, coarse, first, last, level=0)

    def _level(
        self, field: bytes, fine: bytes, coarse: bytes, first: bytes, last: bytes, *, level: int
    ) -> BitMap64:
        if level == len(terms.LEVELS):
            return self._between(field + fine, first, last + b"\xff")
        size = terms.LEVELS[level]
        if first[:size] == last[:size]:
            return self._level(field, fine, coarse, first, last, level=level + 1)
        below = first[:size] + b"\xff" * (len(first) - size)
        above = last[:size] + bytes(len(last) - size)
        found = self._level(field, fine, coarse, first, below, level=level + 1)
        found |= self._level(field, fine, coarse, above, last, level=level + 1)
        return found | self._coarse(field + coarse, _next(first[:size]), last[:size])

    def _coarse(self, term: bytes, start: bytes, stop: bytes) -> BitMap64:
        if not start or start >= stop:
            return BitMap64()
        size = bytes([len(start)])
        return self._between(term, size + start, size + stop)

    def _term(self, term: bytes) -> BitMap64:
        found = postings.union(self._view, postings.term_prefix(self._namespace, term))
        return found & self._universe

    def _between(self, term: bytes, start: bytes, stop: bytes) -> BitMap64:
        prefix = postings.term_prefix(self._namespace, term)
        return postings.union_between(self._view, prefix + start, prefix + stop) & self._universe


def _holds_for_absent(test: Test) -> bool:
    return (isinstance(test, Exists) and not test.present) or (
        isinstance(test, IsEmpty) and test.empty
    )


def _is_of_one_value(test: Test) -> bool:
    """Whether a list passes as soon as one entry does, however the others stand to it."""
    return not (isinstance(test, Except) or _holds_for_absent(test))


def _next(key: bytes) -> bytes:
    """The next key of this length; empty where there is none."""
    number = int.from_bytes(key) + 1
    return b"" if number >> (8 * len(key)) else number.to_bytes(len(key))


def _before(key: bytes) -> bytes:
    number = int.from_bytes(key)
    return bytes(len(key)) if not number else (number - 1).to_bytes(len(key))


def _ends(test: Moment) -> tuple[int, int]:
    """The first and the last moment that pass, of all that there are."""
    low = [test.gte_ns, None if test.gt_ns is None else test.gt_ns + 1, -_MOMENT_MAX]
    high = [test.lte_ns, None if test.lt_ns is None else test.lt_ns - 1, _MOMENT_MAX]
    first = max(bound for bound in low if bound is not None)
    return first, min(bound for bound in high if bound is not None)
