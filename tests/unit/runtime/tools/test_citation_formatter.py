"""citation-formatter."""

import pytest

from services.common.errors import Reason

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAME = "citation-formatter"
BIBTEX = r"""
@article{turing, author = {Turing, Alan M.}, title = {On {Computable} Numbers}, year = 1936,
  journal = {Proc. London Math. Soc.}, volume = 42, pages = {230--265}}
@book{knuth, author = "Donald E. Knuth", title = "The Art of {\'E}tudes",
  publisher = {Addison-Wesley}, year = 1984}
"""
YAML = """
turing:
  type: Article
  title: On Computable Numbers
  author: ["Turing, Alan M."]
  date: 1936-11
  page-range: 230-265
  parent: {type: Periodical, title: Proc. London Math. Soc., volume: 42}
"""
PYBTEX_YAML = """
entries:
  k: {type: book, title: T, author: [{first: A, last: B}], publisher: P, year: 1999}
"""


async def test_the_real_bibliography_is_formatted(hand):
    """Every entry, by the style's order, with what stands for it in a text."""
    result = await hand.result(NAME, input=BIBTEX, style="plain")
    assert [one["key"] for one in result["citations"]] == ["knuth", "turing"]
    assert result["reference_list"] == [
        "Donald E. Knuth. The Art of \u00c9tudes. Addison-Wesley, 1984.",
        "Alan M. Turing. On Computable numbers. Proc. London Math. Soc., 42:230\u2013265, 1936.",
    ]
    assert (result["format"], result["entry_count"], result["warnings"]) == ("bibtex", 2, [])
    alpha = await hand.result(NAME, input=BIBTEX, style="alpha", cite_keys="turing")
    assert [one["label"] for one in alpha["citations"]] == ["Tur36"]


WORKS = r"""
@article{turing, author={Turing, Alan M.}, title={On {Computable} Numbers}, year=1936,
  journal={Proc. London Math. Soc.}, volume=42, number=1, pages={230--265}, doi={10.1112/x}}
@book{knuth, author="Donald E. Knuth", title="The Art", edition=3, address={Reading, MA},
  publisher={Addison-Wesley}, year=1997}
@inproceedings{vaswani, author={Vaswani, Ashish and Shazeer, Noam and Parmar, Niki},
  editor={Guyon, Isabelle and von Luxburg, Ulrike}, title={Is Attention Enough?},
  booktitle={NeurIPS}, year=2017, pages={1-11}, publisher={Curran}}
"""
APA = [
    "Knuth, D. E. (1997). The Art (3rd ed.). Addison-Wesley.",
    (
        "Turing, A. M. (1936). On Computable Numbers. Proc. London Math. Soc., 42(1), "
        "230\u2013265. https://doi.org/10.1112/x"
    ),
    (
        "Vaswani, A., Shazeer, N., & Parmar, N. (2017). Is Attention Enough? In I. Guyon & "
        "U. von Luxburg (Eds.), NeurIPS (pp. 1\u201311). Curran."
    ),
]
MLA = [
    "Knuth, Donald E. The Art. 3rd ed., Addison-Wesley, 1997.",
    (
        "Turing, Alan M. \u201cOn Computable Numbers.\u201d Proc. London Math. Soc., vol. 42, "
        "no. 1, 1936, pp. 230\u2013265, https://doi.org/10.1112/x"
    ),
    (
        "Vaswani, Ashish, et al. \u201cIs Attention Enough?\u201d NeurIPS, edited by Isabelle "
        "Guyon and Ulrike von Luxburg, Curran, 2017, pp. 1\u201311."
    ),
]
CHICAGO = [
    "Knuth, Donald E. 1997. The Art. 3rd ed. Reading, MA: Addison-Wesley.",
    (
        "Turing, Alan M. 1936. \u201cOn Computable Numbers.\u201d Proc. London Math. Soc. 42 (1): "
        "230\u2013265. https://doi.org/10.1112/x"
    ),
    (
        "Vaswani, Ashish, Noam Shazeer, and Niki Parmar. 2017. \u201cIs Attention Enough?\u201d In "
        "NeurIPS, edited by Isabelle Guyon and Ulrike von Luxburg, 1\u201311. Curran."
    ),
]
HARVARD = [
    "Knuth, D.E. (1997) The Art. 3rd edn. Reading, MA: Addison-Wesley.",
    (
        "Turing, A.M. (1936) \u2018On Computable Numbers\u2019, Proc. London Math. Soc., 42(1), "
        "pp. 230\u2013265. Available at: https://doi.org/10.1112/x"
    ),
    (
        "Vaswani, A., Shazeer, N. and Parmar, N. (2017) \u2018Is Attention Enough?\u2019, in "
        "Guyon, I. and von Luxburg, U. (eds.) NeurIPS. Curran, pp. 1\u201311."
    ),
]
IEEE = [
    (
        "A. M. Turing, \u201cOn Computable Numbers,\u201d Proc. London Math. Soc., vol. 42, no. 1, "
        "pp. 230\u2013265, 1936, doi: 10.1112/x."
    ),
    "D. E. Knuth, The Art, 3rd ed. Reading, MA: Addison-Wesley, 1997.",
    (
        "A. Vaswani, N. Shazeer, and N. Parmar, \u201cIs Attention Enough?\u201d in NeurIPS, "
        "Curran, 2017, pp. 1\u201311."
    ),
]
VANCOUVER = [
    "Turing AM. On Computable Numbers. Proc. London Math. Soc. 1936;42(1):230-265. doi: 10.1112/x.",
    "Knuth DE. The Art. 3rd ed. Reading, MA: Addison-Wesley; 1997.",
    (
        "Vaswani A, Shazeer N, Parmar N. Is Attention Enough? In: Guyon I, von Luxburg U, editors. "
        "NeurIPS. Curran; 2017. p. 1-11."
    ),
]


@pytest.mark.parametrize(
    ("style", "references", "label"),
    [
        ("apa", APA, "(Knuth, 1997)"),
        ("mla", MLA, "(Knuth)"),
        ("chicago", CHICAGO, "(Knuth 1997)"),
        ("harvard", HARVARD, "(Knuth, 1997)"),
        ("ieee", IEEE, "[1]"),
        ("vancouver", VANCOUVER, "(1)"),
    ],
)
async def test_manuals_are_followed(hand, style, references, label):
    """An article, a book and a part of a book; by names, or in the order of citation."""
    result = await hand.result(NAME, input=WORKS, style=style)
    assert result["reference_list"] == references
    assert result["citations"][0]["label"] == label


@pytest.mark.parametrize(
    ("output", "part"),
    [
        ("html", "<em>Proc. London"),
        ("markdown", "*Proc\\. London"),
        ("latex", r"\emph{Proc. London"),
    ],
)
async def test_references_are_written_for_where_they_go(hand, output, part):
    """HTML, Markdown and LaTeX beside plain text."""
    result = await hand.result(
        NAME, input=BIBTEX, style="plain", cite_keys=["turing"], output=output
    )
    assert part in result["reference_list"][0]


async def test_yaml_is_read_as_either_writes_it(hand):
    """Hayagriva's and pybtex's."""
    result = await hand.result("citation_formatter", input=YAML, style="unsrt", names="last-first")
    assert result["format"] == "yaml"
    assert result["reference_list"][0].startswith(
        "Turing, Alan M. On computable numbers. Proc. London"
    )
    assert "42:230" in result["reference_list"][0]
    assert (await hand.result(NAME, input=PYBTEX_YAML, style="plain"))["reference_list"] == [
        "A B. T. P, 1999."
    ]


async def test_a_bibliography_is_validated(hand):
    """What each entry lacks, and faults of the text."""
    source = (
        "@article{a, title={T}, year={soon}}\n"
        "@book{b, title={U}, author={X}, publisher={P}, year=1}"
    )
    result = await hand.result(NAME, operation="validate_bibliography", input=source)
    assert (result["total_entries"], result["valid_entries"], result["is_valid"]) == (2, 1, False)
    first = result["validation_results"][0]
    assert (first["key"], first["entry_type"], first["valid"]) == ("a", "article", False)
    assert first["issues"] == [
        "author is missing",
        "journal is missing",
        "year is 'soon', which is no number",
    ]


async def test_styles_are_listed_and_each_works(hand):
    """No style is named that cannot be had."""
    styles = (await hand.result(NAME, operation="list_styles"))["supported_styles"]
    assert len(styles) == 10
    for style in styles:
        assert (await hand.result(NAME, input=BIBTEX, style=style))["entry_count"] == 2


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({}, Reason.FIELD_REQUIRED),
        ({"input": "nothing here"}, Reason.FIELD_INVALID),
        ({"input": "@article{a, title = "}, Reason.FIELD_INVALID),
        ({"input": "a: [", "format": "yaml"}, Reason.FIELD_INVALID),
        ({"input": "a: &x [1]\nb: *x", "format": "yaml"}, Reason.FIELD_INVALID),
        ({"input": "a: {title: T}", "format": "yaml"}, Reason.FIELD_INVALID),
        ({"input": BIBTEX, "style": "nature"}, Reason.NOT_IMPLEMENTED),
        ({"input": BIBTEX, "style": "sorcery"}, Reason.FIELD_INVALID),
        ({"input": BIBTEX, "cite_keys": "knuth, nobody"}, Reason.FIELD_INVALID),
        ({"input": "@spell{a, title={T}}", "style": "plain"}, Reason.FIELD_INVALID),
    ],
)
async def test_wrong_input_is_refused(hand, arguments, reason):
    """What is no bibliography, unknown styles, keys and types."""
    assert (await hand.refusal(NAME, **arguments)).reason == reason
