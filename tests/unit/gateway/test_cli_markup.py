"""HTML as a reader sees it."""

import pytest

from services.gateway.cli.markup import heading, html_to_text

PAGES = {
    "blocks": ("<h1>A</h1><p>b <b>c</b></p><p>d</p>", "A\nb c\nd"),
    "blanks": ("<p>a\n   b\t c</p>", "a b c"),
    "entities": ("<p>a &lt;b&gt; &#233; &nbsp;x</p>", "a <b> é \xa0x"),
    "silent": ("<p>a</p><script>x<p>y</script><style>p{}</style><p>b</p>", "a\nb"),
    "comments": ("a<!-- b -->c", "ac"),
    "preformatted": ("<p>a</p><pre>  x\n    y</pre><p>b</p>", "a\n  x\n    y\nb"),
    "lists": ("<ul><li>a<li>b</ul>c", "a\nb\nc"),
    "table": ("<table><tr><td>a</td><td>b</td></tr></table>", "a\nb"),
    "break": ("a<br/>b<br>c", "a\nb\nc"),
    "unclosed": ("<p>a<b>c", "ac"),
    "stray end": ("a</p></script></pre>b", "a\nb"),
    "nested silence": ("<svg><title>x</title>y</svg>z", "z"),
    "empty": ("", ""),
    "cut short": ("<p>a</p><b", "a\n<b"),
    "doctype": ("<!doctype html><html><body>a</body></html>", "a"),
}


@pytest.mark.parametrize("name", PAGES)
def test_page_text(name):
    """What a browser shows is kept, line by block; what it hides is not."""
    markup, text = PAGES[name]
    assert html_to_text(markup)[1] == text


def test_page_title():
    """The title is one line, and not part of the text; an image's title is no page's."""
    title, text = html_to_text("<title>\n A \n B </title><svg><title>no</title></svg><p>c")
    assert (title, text) == ("A B", "c")


@pytest.mark.parametrize(
    ("text", "suffix", "title"),
    [
        ("# One\n## Two", ".md", "One"),
        ("text\n### Deep ###\n", ".md", "Deep"),
        ("#no heading", ".md", ""),
        ("Title\n=====\n", ".rst", "Title"),
        ("Title\n--\n", ".rst", ""),
        ("# One", ".txt", ""),
    ],
)
def test_heading(text, suffix, title):
    """The first heading of a text is its title."""
    assert heading(text, suffix) == title


def test_endless_heading_is_cut():
    """A title is a line for people, not a document."""
    assert len(heading("# " + "x" * 5000, ".md")) == 200
