from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overread import examples
from overread.portal.engineering.markdown import render

ALLOWED = {
    "h2", "h3", "h4", "p", "ul", "ol", "li", "pre", "code", "strong", "em", "table", "thead",
    "tbody", "tr", "th", "td",
}  # fmt: skip


class Tags(HTMLParser):
    """The tags of a page, and their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def tags(text: str) -> Tags:
    seen = Tags()
    seen.feed(str(render(text)))
    assert not seen.open
    return seen


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("# Title", "<h2>Title</h2>"),
        ("one\ntwo", "<p>one two</p>"),
        ("**so** and *so*", "<p><strong>so</strong> and <em>so</em></p>"),
        ("`a*b*c`", "<p><code>a*b*c</code></p>"),
        ("- a\n  more\n- b", "<ul><li>a more</li><li>b</li></ul>"),
        ("1. a\n2. b", "<ol><li>a</li><li>b</li></ol>"),
        ("```\n<b>\n```", "<pre>&lt;b&gt;</pre>"),
        ("a < b & c", "<p>a &lt; b &amp; c</p>"),
    ],
)
def test_what_is_written(written: str, shown: str) -> None:
    assert render(written) == shown


def test_a_table() -> None:
    shown = render("| a | b |\n| --- | --- |\n| 1 | 2 |")
    assert "<th>a</th><th>b</th>" in shown and "<td>1</td><td>2</td>" in shown


def test_the_examples_cards_are_shown() -> None:
    cards = list(Path(examples.__file__).parent.glob("*/models/*/*/MODEL_CARD.md"))
    assert cards
    for card in cards:
        assert "table" in tags(card.read_text()).seen


@given(
    st.text(alphabet="<>&\"'`*#|-1. \n\tab=/script", max_size=200)
    | st.text(max_size=200).map(lambda text: f"<script>{text}</script>\n| {text} |\n* {text}")
)
def test_nothing_of_it_is_markup_of_its_own(text: str) -> None:
    seen = tags(text)
    assert seen.seen <= ALLOWED
    assert seen.attributes <= {"class"}
