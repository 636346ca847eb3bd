"""Write ``docs/operators/``: a page for each operator, and the table in ``index.md``."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection
from pathlib import Path

from overread import registry
from overread.operators import page

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "operators"
BEGIN, END = "<!-- the table of operators -->", "<!-- the end of the table -->"
KINDS = (
    ("select", "Choose"),
    ("describe", "Choose"),
    ("clinical", "Choose"),
    ("read", "Read"),
    ("image", "Read"),
    ("check_input", "Check"),
    ("grid", "Prepare"),
    ("intensity", "Prepare"),
    ("register", "Prepare"),
    ("infer", "Find"),
    ("detect", "Find"),
    ("classify", "Find"),
    ("postprocess", "Clean"),
    ("measure", "Measure"),
    ("diameters", "Measure"),
    ("join", "Measure"),
    ("write", "Write"),
    ("sr", "Write"),
    ("pdf", "Write"),
    ("capture", "Write"),
    ("mesh", "Write"),
    ("container", "Run anything"),
)
"""Room of an operator, and the heading that it stands under; what is not named comes last."""


def pages() -> dict[str, str]:
    """Return every file of ``docs/operators/`` that is made, by its name."""
    made: dict[str, str] = {}
    rows: dict[str, list[str]] = {heading: [] for _, heading in KINDS} | {"Other": []}
    places = {plugin.name: plugin.value for plugin in registry.plugins()
              if plugin.family == "operators" and plugin.distribution == "overread"}  # fmt: skip
    for name in sorted(places):
        function = registry.load("operators", name)
        made[f"{name}.md"] = _linked(page.page(name, function), name, places)
        room = places[name].split(":")[0].rsplit(".", 1)[-1]
        heading = next((heading for one, heading in KINDS if one == room), "Other")
        rows[heading].append(f"| [`{name}`]({name}.md) | {page.summary(function)} |")
    table = []
    for heading, lines in rows.items():
        if lines:
            table += [f"### {heading}", "", "| operator | |", "| --- | --- |", *lines, ""]
    index = (FOLDER / "index.md").read_text(encoding="utf-8")
    before, after = index.split(BEGIN)[0], index.split(END)[1]
    made["index.md"] = before + BEGIN + "\n\n" + "\n".join(table) + "\n" + END + after
    return made


def _linked(text: str, name: str, names: Collection[str]) -> str:
    """Link the other operators that a page names, but not the ports and settings called alike."""
    return re.sub(
        r"(?<![`\[])(?<!^\| )`(\w+)`(?!`)",
        lambda found: (
            f"[`{found[1]}`]({found[1]}.md)" if found[1] in names and found[1] != name else found[0]
        ),
        text,
        flags=re.MULTILINE,
    )


def main() -> None:
    """Write the pages, and remove those of operators that are no more."""
    made = pages()
    for old in FOLDER.glob("*.md"):
        if old.name not in made:
            old.unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    sys.stdout.write(f"{len(made) - 1} operators\n")


if __name__ == "__main__":
    main()
