"""Words of one collection's texts, found by BM25 (Robertson and Zaragoza 2009).

An index belongs to one collection, so its statistics tell nothing of anybody else's texts. It
stands in memory, is made from the store at the first search, and follows by label as a tail does;
what is gone stays in it until it is made anew, and whoever searches it drops that.

Texts are cut into words in lower case, reduced to their stems as in English; runs of characters
of scripts without blanks between words (Chinese, Japanese, Thai and others) into pairs of
characters, and single ones, so that a word of one character is found too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import tantivy

from services.vector.segments.footprint import give_back

_LABEL, _WORDS, _EXACT = "label", "words", "exact"
_HEAP_BYTES = 15_000_000
_WORDS_MAX = 64
"""Different words of a question that count."""
_RUN = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fff\u3005-\u3007\u3040-\u9fff"
    r"\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]+"
)
"""Thai and Lao, Burmese, Khmer, Chinese, Japanese, Korean; no punctuation."""
_OWN_BYTES = 80 * 1024
_SHARE_OF_TEXT = 1.2
"""What an index takes by itself, and for each byte of text (measured; see the tests)."""
_TRIM_FROM_TEXTS = 1000
_EXACT_BOOST = 0.25


class LexicalIndex:
    """Used in one thread at a time."""

    def __init__(self) -> None:
        builder = tantivy.SchemaBuilder()
        builder.add_integer_field(_LABEL, stored=True, indexed=False)
        builder.add_text_field(_WORDS, tokenizer_name="stems", index_option="freq")
        builder.add_text_field(_EXACT, tokenizer_name="words", index_option="freq")
        self._index = tantivy.Index(builder.build())
        self._stems = _analyzer(stem=True)
        self._words = _analyzer(stem=False)
        self._index.register_tokenizer("stems", self._stems)
        self._index.register_tokenizer("words", self._words)
        self._text_bytes = 0
        self.covered = -1
        """Texts of all labels up to this are in it."""
        self.count = 0

    def add(self, labels: Sequence[int], texts: Sequence[str]) -> None:
        """Take in texts; their labels rise and are larger than all before."""
        if not labels:
            return
        writer = self._index.writer(heap_size=_HEAP_BYTES, num_threads=1)
        for label, text in zip(labels, texts, strict=True):
            paired = pair_characters(text, single=True)
            writer.add_document(tantivy.Document(**{_LABEL: label, _WORDS: paired, _EXACT: paired}))
            self._text_bytes += len(paired.encode())
        writer.commit()
        writer.wait_merging_threads()
        self._index.reload()
        del writer
        if len(labels) >= _TRIM_FROM_TEXTS:
            give_back()  # a writer leaves up to ten times of what it wrote in the heap
        self.covered = labels[-1]
        self.count += len(labels)

    def search(self, text: str, count: int) -> list[tuple[int, float]]:
        """Labels and scores of up to `count` texts that share a word with `text`, best first."""
        query = self._query(text)
        if query is None or not self.count:
            return []
        searcher = self._index.searcher()
        found = searcher.search(query, limit=min(count, self.count), count=False)
        return [
            (int(searcher.doc(address)[_LABEL][0]), float(score)) for score, address in found.hits
        ]

    def size_bytes(self) -> int:
        """Memory that it takes, roughly."""
        return _OWN_BYTES + int(_SHARE_OF_TEXT * self._text_bytes)

    def _query(self, text: str) -> tantivy.Query | None:
        """Any of the words; no syntax, so no text can be malformed."""
        paired = pair_characters(text)
        parts = []
        for field, analyzer, boost in (
            (_WORDS, self._stems, 1.0),
            (_EXACT, self._words, _EXACT_BOOST),
        ):
            for word in list(dict.fromkeys(analyzer.analyze(paired)))[:_WORDS_MAX]:
                term = tantivy.Query.term_query(self._index.schema, field, word, "freq")
                parts.append((tantivy.Occur.Should, tantivy.Query.boost_query(term, boost)))
        return tantivy.Query.boolean_query(parts) if parts else None


def pair_characters(text: str, *, single: bool = False) -> str:
    """The text, with runs of characters without blanks cut into pairs, and single ones if asked."""
    return _RUN.sub(lambda run: f" {' '.join(_pairs(run.group(), single=single))} ", text)


def _pairs(run: str, *, single: bool) -> list[str]:
    if len(run) == 1:
        return [run]
    pairs = [run[start : start + 2] for start in range(len(run) - 1)]
    return [*pairs, *run] if single else pairs


def _analyzer(*, stem: bool) -> tantivy.TextAnalyzer:
    builder = (
        tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
        .filter(tantivy.Filter.remove_long(80))
        .filter(tantivy.Filter.lowercase())
        .filter(tantivy.Filter.ascii_fold())
    )
    if stem:
        builder = builder.filter(tantivy.Filter.stemmer("english"))
    return builder.build()
