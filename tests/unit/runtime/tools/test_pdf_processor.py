"""pdf-processor: a real document, and files that are none."""

import io

import pypdf
import pytest
import pytest_asyncio
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from services.common.errors import Reason
from tests.unit.runtime.tooling import caller, open_toolbox, put, refusal

pytestmark = pytest.mark.asyncio(loop_scope="module")


def document(*texts, password=""):
    """A PDF with a page for each text."""
    writer = pypdf.PdfWriter()
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type1"),
            NameObject("/BaseFont"): NameObject("/Helvetica"),
        }
    )
    for text in texts:
        page = writer.add_blank_page(200, 200)
        stream = DecodedStreamObject()
        stream.set_data(f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET".encode())
        page[NameObject("/Contents")] = writer._add_object(stream)
        fonts = DictionaryObject({NameObject("/F1"): writer._add_object(font)})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
    writer.add_metadata({"/Title": "Of Trees", "/Author": "A. Nonymous"})
    if password:
        writer.encrypt(password, algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pdf(tmp_path_factory):
    """Executes an operation on the documents here."""
    place = tmp_path_factory.mktemp("tenants")
    put(place, "trees.pdf", document("Oaks are old.", "Birches are white.", "Pines are green."))
    put(place, "secret.pdf", document("hidden", password="sesame"))
    put(place, "none.pdf", b"this is none")
    put(place, "cut.pdf", document("x")[:200])
    async with open_toolbox(place) as toolbox:

        async def execute(operation, **arguments):
            arguments["operation"] = operation
            return await toolbox.execute("pdf-processor", arguments, caller())

        yield execute


async def test_text_of_all_pages(pdf):
    """Under the old name of the parameter as well."""
    done = (await pdf("extract_text", path="trees.pdf")).result
    assert done["text"] == "Oaks are old.\nBirches are white.\nPines are green."
    assert (done["page_count"], done["truncated"]) == (3, False)


async def test_some_pages(pdf):
    """One page without an end, several with one."""
    one = (await pdf("extract_pages", input="trees.pdf", start_page=2)).result
    assert (one["text"], one["end_page"]) == ("Birches are white.", 2)
    two = (await pdf("extract_pages", input="trees.pdf", start_page=2, end_page=9)).result
    assert [page["page"] for page in two["pages"]] == [2, 3]
    missing = await pdf("extract_pages", input="trees.pdf", start_page=4)
    assert missing.failure.code == "page_not_found"


async def test_metadata(pdf):
    """Of the file and of the document."""
    told = (await pdf("extract_metadata", input="trees.pdf")).result
    assert (told["title"], told["author"], told["page_count"]) == ("Of Trees", "A. Nonymous", 3)
    assert (told["file_name"], told["file_extension"]) == ("trees.pdf", "pdf")


async def test_an_encrypted_document_needs_its_password(pdf):
    """With the password it reads; without it the answer says so."""
    closed = await pdf("extract_text", input="secret.pdf")
    assert "encrypted" in closed.failure.message
    assert (await pdf("extract_text", input="secret.pdf", password="sesame")).result["text"] == (
        "hidden"
    )


@pytest.mark.parametrize("name", ["none.pdf", "cut.pdf"])
async def test_a_file_that_is_none_is_an_answer_without_success(pdf, name):
    """As it always was."""
    for operation in ("extract_text", "extract_metadata", "extract_pages"):
        assert (await pdf(operation, input=name)).failure.code == "pdf_invalid"


async def test_wrong_arguments_are_refused(pdf):
    """Paths and pages that cannot be."""
    assert (await refusal(pdf("extract_text", input="nothing"))).reason == Reason.FILE_NOT_FOUND
    assert (await refusal(pdf("extract_text", input="../x"))).reason == Reason.PATH_REFUSED
    assert (await refusal(pdf("extract_text"))).reason == Reason.FIELD_REQUIRED
    wrong = await refusal(pdf("extract_pages", input="trees.pdf", start_page=0))
    assert wrong.reason == Reason.FIELD_INVALID
