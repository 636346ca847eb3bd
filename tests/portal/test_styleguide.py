"""The style guide shows every component; the tokens have the contrast that they promise."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from overread.portal.styleguide import SERIES, SURFACES, TOKENS, WORDS

Colours = dict[str, str]

GROUNDS = [one for one in SURFACES if one != "image"]
"""What words stand on."""


def tokens(theme: str) -> Colours:
    """The colours of a theme, by token; light ones where that theme has its own."""
    sheet = re.sub(r"/\*.*?\*/", "", TOKENS.read_text(), flags=re.DOTALL)
    found: Colours = {}
    for selector in (":root", ':root[data-theme="light"]')[: 2 if theme == "light" else 1]:
        block = re.search(re.escape(selector) + r" \{(.*?)\}", sheet, flags=re.DOTALL)
        assert block, f"{TOKENS.name} has no block {selector}"
        found |= dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6});", block[1]))
    return found


def luminance(colour: str) -> float:
    """WCAG 2.2's relative luminance."""
    digits = colour[1:] if len(colour) == 7 else "".join(one * 2 for one in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's contrast ratio, from 1 to 21."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_as_the_standard_defines_it() -> None:
    """Black on white is 21, and #777 on white is the known 4.48."""
    assert contrast("#000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#fff") == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("word", WORDS)
def test_words_are_legible(theme: str, ground: str, word: str) -> None:
    """Every colour of words has 4.5 : 1 on every surface."""
    has = tokens(theme)
    assert contrast(has[word], has[ground]) >= 4.5


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_controls_and_lines_of_plots_are_seen(theme: str) -> None:
    """Edges of controls and lines of plots have 3 : 1; words on the accent 4.5 : 1."""
    has = tokens(theme)
    assert contrast(has["accent-ink"], has["accent"]) >= 4.5
    for ground in ("ground", "surface", "sunken"):
        assert contrast(has["edge"], has[ground]) >= 3, ground
    for line in SERIES:
        assert contrast(has[line], has["surface"]) >= 3, line


def test_no_sheet_but_the_tokens_has_raw_colours() -> None:
    """Other sheets take tokens; black, and what is drawn on images, are the exception."""
    for sheet in TOKENS.parent.glob("*.css"):
        if sheet.name in (TOKENS.name, "30-images.css"):
            continue
        words = re.sub(r"/\*.*?\*/", "", sheet.read_text(), flags=re.DOTALL)
        found = re.findall(r"#[0-9a-f]{3,8}\b(?=[^{}]*;)|\brgba?\([^)]*\)", words)
        assert not found, f"{sheet.name}: {found}"


def test_every_token_used_is_one_that_is_there() -> None:
    """A misspelt token would silently be nothing."""
    sheets = {one.name: one.read_text() for one in TOKENS.parent.glob("*.css")}
    known = set(re.findall(r"--([\w-]+):", "".join(sheets.values())))
    for name, words in sheets.items():
        unknown = set(re.findall(r"var\(--([\w-]+)\)", words)) - known
        assert not unknown, f"{name}: {sorted(unknown)}"


def test_the_guide_shows_every_component_and_colour(reader: TestClient) -> None:
    """The page has each macro's class, and a swatch for each token."""
    page = reader.get("/styleguide").text
    shown = ["pill", "btn", "say", "empty", "field", "rows", "tabs", "chips", "meter", "stat"]
    for name in [*shown, "skeleton", "hero", "track", "toolbar"]:
        assert re.search(rf'class="[^"]*\b{name}\b', page), name
    for token in (*SURFACES, *WORDS, *SERIES):
        assert f"token-{token}" in page
    assert "<dialog" in page


def test_nobody_sees_it_without_a_sign_in(anonymous: TestClient) -> None:
    """It is a page of the portal, like any other."""
    assert anonymous.get("/styleguide").headers["location"].startswith("/sign-in")


def test_the_theme_is_a_cookie_that_the_server_writes(reader: TestClient) -> None:
    """Dark unless chosen otherwise; an odd cookie chooses nothing."""
    for cookie, theme in (("", "dark"), ("light", "light"), ('"><script>', "dark")):
        page = reader.get("/styleguide", headers={"cookie": _with(reader, cookie)}).text
        assert f'<html lang="en" data-theme="{theme}">' in page
        assert "<script>" not in page


def _with(client: TestClient, theme: str) -> str:
    held = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    return f"{held}; overread-theme={theme}"
