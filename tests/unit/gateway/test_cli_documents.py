"""Which files are documents, what they say, and how they are sent."""

import itertools
import os
from pathlib import Path

import pytest
from llmspell import FailedPrecondition, InvalidArgument
from llmspell.errors import Unimplemented
from llmspell.types import IngestResult, Progress

from services.common.limits import DOCUMENT_BYTES_MAX
from services.gateway.cli.documents import Source, UnfitFileError, find_sources, read_text
from services.gateway.cli.ingestion import BATCH_BYTES, BATCH_DOCUMENTS, Report, ingest_sources


@pytest.fixture
def folder(tmp_path):
    """A folder with files of every kind."""
    for name in ("b.MD", "a.txt", "sub/c.rst", "sub/deep/d.HTML", "e.htm", "f.pdf", "g.py"):
        path = tmp_path / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text of {name}", "utf-8")
    for name in (".hidden.MD", ".git/x.MD"):
        path = tmp_path / "docs" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("hidden", "utf-8")
    return tmp_path / "docs"


def ids(sources):
    """Document ids in order."""
    return [source.document_id for source in sources]


def test_folder_means_its_documents(folder):
    """Folders give what they hold, deep, in order, without other kinds and hidden names."""
    sources, skipped = find_sources([folder])
    assert ids(sources) == ["a.txt", "b.MD", "e.htm", "sub/c.rst", "sub/deep/d.HTML"]
    assert skipped == []


def test_file_means_itself(folder):
    """A file that is named is ingested under its name, hidden or not."""
    sources, skipped = find_sources([folder / "a.txt", folder / ".hidden.MD"])
    assert ids(sources) == ["a.txt", ".hidden.MD"]
    assert skipped == []


def test_same_file_twice_is_once(folder):
    """Naming a file twice, or its folder too, ingests it once."""
    sources, skipped = find_sources([folder, folder, folder / "a.txt"])
    assert ids(sources).count("a.txt") == 1
    assert skipped == []


def test_two_files_of_one_id_do_not_replace_each_other(folder, tmp_path):
    """A second file of the same id is named, because it would replace the first."""
    twin = tmp_path / "other" / "a.txt"
    twin.parent.mkdir()
    twin.write_text("other", "utf-8")
    sources, (skipped,) = find_sources([folder, twin.parent])
    assert ids(sources).count("a.txt") == 1
    assert skipped.path == str(twin)
    assert str(folder / "a.txt") in skipped.why


def test_unfit_paths_are_named(folder, tmp_path):
    """What is not there, of another kind, too large or no file is named with the reason."""
    large = tmp_path / "large.txt"
    with large.open("wb") as file:
        file.truncate(DOCUMENT_BYTES_MAX + 1)
    pipe = tmp_path / "pipe.txt"
    os.mkfifo(pipe)
    paths = [tmp_path / "absent.MD", folder / "f.pdf", large, pipe]
    sources, skipped = find_sources(paths)
    assert sources == []
    assert [file.path for file in skipped] == [str(path) for path in paths]
    whys = [file.why for file in skipped]
    assert "No such file" in whys[0]
    assert ".rst" in whys[1]
    assert "the limit is 4 MiB" in whys[2]
    assert "regular" in whys[3]


def test_broken_link_is_named(folder):
    """A link that leads nowhere is named, and the rest goes on."""
    (folder / "broken.MD").symlink_to("nowhere")
    sources, (skipped,) = find_sources([folder])
    assert len(sources) == 5
    assert skipped.path.endswith("broken.MD")


def source(tmp_path, name, content):
    """A file with this content."""
    path = tmp_path / name
    path.write_bytes(content)
    return Source(path, name, len(content))


@pytest.mark.parametrize(
    ("name", "content", "title", "text"),
    [
        ("a.txt", b"plain\n", "a", "plain\n"),
        ("bom.txt", b"\xef\xbb\xbfplain", "bom", "plain"),
        ("a.MD", b"intro\n\n## The *title* ##\n", "The *title*", "intro\n\n## The *title* ##\n"),
        ("a.rst", b"=====\nTitle\n=====\nx", "Title", "=====\nTitle\n=====\nx"),
        ("b.rst", b"no heading", "b", "no heading"),
        ("a.html", b"<title>T &amp; U</title><p>x", "T & U", "x"),
        ("A.HTM", b"<p>x", "A", "x"),
    ],
)
def test_file_says(tmp_path, name, content, title, text):
    """Text and title of each kind; without a title the name stands for it."""
    read = read_text(source(tmp_path, name, content))
    assert (read.title, read.text) == (title, text)


@pytest.mark.parametrize(
    ("content", "why"), [(b"caf\xe9", "byte 3"), (b"", "no text"), (b" \n\t", "no text")]
)
def test_file_that_says_nothing_is_unfit(tmp_path, content, why):
    """What is not UTF-8, or holds no text, says why."""
    with pytest.raises(UnfitFileError, match=why):
        read_text(source(tmp_path, "a.txt", content))


def test_html_without_text_is_unfit(tmp_path):
    """A page of scripts alone holds no text."""
    with pytest.raises(UnfitFileError, match="no text"):
        read_text(source(tmp_path, "a.html", b"<script>var x</script>"))


class Service:
    """Takes batches as the service would; a document that says REFUSE is refused."""

    def __init__(self):
        self.batches = []

    def __call__(self, documents):
        """Ingest."""
        self.batches.append(documents)
        for n, document in enumerate(documents):
            if "REFUSE" in document.text:
                raise InvalidArgument("It is refused.", metadata={"field": f"documents[{n}].text"})
        return IngestResult([one.document_id for one in documents], len(documents), 1, 0, 1)


def no_stream(documents):
    """A deployment that takes batches only."""
    next(documents)
    raise Unimplemented("No.")
    yield


def ingest(sources, service, stream=no_stream):
    """What the report says after all of them."""
    report = Report()
    ingest_sources(sources, stream, service, report)
    return report


class Stream:
    """Takes documents as the service would: in messages, two of them read ahead of an answer."""

    def __init__(self, service, per_message=2, unchanged=()):
        self.service = service
        self.per_message = per_message
        self.unchanged = unchanged
        self.streams = []

    def __call__(self, documents):
        """Import."""
        self.streams.append([])
        stored = passed = 0
        messages = iter(lambda: list(itertools.islice(documents, self.per_message)), [])
        ahead = list(itertools.islice(messages, 2))
        while ahead:
            message = ahead.pop(0)
            ahead += itertools.islice(messages, 1)
            self.streams[-1] += [document.document_id for document in message]
            self.service(message)
            there = sum(document.document_id in self.unchanged for document in message)
            stored, passed = stored + len(message) - there, passed + there
            yield Progress(1, stored, document_count=stored, unchanged_count=passed, revision=9)


def test_files_go_in_one_stream(tmp_path):
    """All of them, in order; what was there unchanged is counted by itself."""
    sources = [source(tmp_path, f"{n}.txt", b"x") for n in range(5)]
    stream = Stream(Service(), unchanged={"1.txt"})
    report = ingest(sources, None, stream)
    assert stream.streams == [[f"{n}.txt" for n in range(5)]]
    assert (report.document_count, report.unchanged_count, report.done_count) == (4, 1, 5)
    assert (report.chunk_count, report.revision) == (4, 9)


@pytest.mark.parametrize("place", range(9))
def test_a_document_that_is_refused_in_a_stream_is_found(tmp_path, place):
    """Wherever it stands it alone is left out, and each other document is stored once."""
    sources = [source(tmp_path, f"{n}.txt", b"REFUSE" if n == place else b"fine") for n in range(9)]
    service = Service()
    report = ingest(sources, service, Stream(service))
    assert [Path(file.path).name for file in report.skipped] == [f"{place}.txt"]
    assert report.document_count == 8
    taken = [batch for batch in service.batches if all(d.text == "fine" for d in batch)]
    assert sorted(document.document_id for batch in taken for document in batch) == [
        f"{n}.txt" for n in range(9) if n != place
    ]


def test_a_stream_that_breaks_off_has_counted_what_was_answered(tmp_path):
    """An error that is no document's fault ends it; the report says how far it came."""

    def breaks(documents):
        next(documents)
        yield Progress(1, 1, document_count=1)
        raise FailedPrecondition("No.", reason="EMBEDDING_MISMATCH")

    report = Report()
    sources = [source(tmp_path, f"{n}.txt", b"x") for n in range(3)]
    with pytest.raises(FailedPrecondition):
        ingest_sources(sources, breaks, None, report)
    assert report.done_count == 1


def test_batches_are_bounded(tmp_path):
    """No batch has too many documents or bytes, unless one document alone is larger."""
    small = [source(tmp_path, f"s{n:03}.txt", b"x") for n in range(BATCH_DOCUMENTS + 1)]
    large = [source(tmp_path, f"l{n}.txt", b"y" * (BATCH_BYTES + 1)) for n in range(2)]
    service = Service()
    report = ingest(small + large, service)
    assert [len(batch) for batch in service.batches] == [BATCH_DOCUMENTS, 1, 1, 1]
    assert report.document_count == len(small) + len(large)


def test_documents_carry_source_and_title(tmp_path):
    """Each document has its id, and says in its metadata where it comes from."""
    service = Service()
    ingest([source(tmp_path, "a.MD", b"# Hello\n")], service)
    ((document,),) = service.batches
    assert document.document_id == "a.MD"
    assert document.metadata == {"source": str(tmp_path / "a.MD"), "title": "Hello"}


def test_refused_document_does_not_keep_others_out(tmp_path):
    """One document that the service refuses is named; its neighbours get in."""
    sources = [source(tmp_path, name, b"fine") for name in ("a.txt", "c.txt")]
    sources.insert(1, source(tmp_path, "b.txt", b"REFUSE"))
    report = ingest(sources, Service())
    assert report.document_count == 2
    assert [(file.path, file.why) for file in report.skipped] == [
        (str(tmp_path / "b.txt"), "It is refused.")
    ]


def test_file_that_vanishes_is_named(tmp_path):
    """A file that cannot be read when its turn comes is named, and the rest goes on."""
    gone = Source(tmp_path / "gone.txt", "gone.txt", 5)
    report = ingest([gone, source(tmp_path, "a.txt", b"x")], Service())
    assert report.document_count == 1
    assert report.skipped[0].path.endswith("gone.txt")


@pytest.mark.parametrize(
    "error",
    [
        InvalidArgument("No.", metadata={"field": "chunking.size"}),
        InvalidArgument("No.", reason="SCOPE_INVALID", metadata={"scope": "x"}),
        FailedPrecondition("No.", reason="EMBEDDING_MISMATCH"),
    ],
    ids=["chunking", "scope", "embedding"],
)
def test_what_is_no_documents_fault_ends_the_ingestion(tmp_path, error):
    """An error that every document would meet is told once."""

    def refuse(documents):
        calls.append(documents)
        raise error

    calls = []
    sources = [source(tmp_path, f"{n}.txt", b"x") for n in range(3)]
    with pytest.raises(type(error)):
        ingest(sources, refuse)
    assert len(calls) == 1


def test_a_name_that_is_no_text_is_skipped(tmp_path):
    """It is named as well as it can be, and the files beside it are found."""
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / os.fsdecode(b"m\xff.txt")).write_text("m")
    sources, skipped = find_sources([tmp_path])
    assert [source.document_id for source in sources] == ["a.txt"]
    assert [(each.path.endswith("m\ufffd.txt"), each.why) for each in skipped] == [
        (True, "its name is not UTF-8 text")
    ]
