"""Are decisions numbered so that each can be named by its number?"""

from tests.house import tree


def test_each_decision_has_a_number_of_its_own():
    """The number in its file's name, which its heading repeats."""
    pages = sorted((tree.ROOT / "docs/adr").glob("*.md"))
    numbers = [int(page.name[:4]) for page in pages]
    assert numbers == list(range(1, len(pages) + 1))
    for number, page in zip(numbers, pages, strict=True):
        assert page.read_text("utf-8").startswith(f"# {number}. "), page.name
