"""The Markdown that model cards are written in, as HTML: headings, paragraphs, lists, tables, code.

Everything else stands as it was written. Nothing of it can be markup of its own: text is escaped
before any of ours is put around it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from markupsafe import Markup, escape

_INLINE: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\*\*(.+?)\*\*"), r"<strong>\1</strong>"),
    (re.compile(r"(?<![\w*])\*(?!\s)(.+?)(?<!\s)\*(?![\w*])"), r"<em>\1</em>"),
)
_CODE = re.compile(r"`([^`]+)`")
_RULE = re.compile(r"^\s*\|?[\s:|-]+\|?\s*$")
_ITEM = re.compile(r"^\s*([-*]|\d+\.)\s+")


def render(text: str) -> Markup:
    """Write Markdown as HTML, its headings below those of the page."""
    lines = text.splitlines()
    out: list[str] = []
    while lines:
        if not lines[0].strip():
            lines.pop(0)
            continue
        out.append(_block(lines))
    return Markup("\n".join(out))


def _block(lines: list[str]) -> str:
    """Take one block off the lines, and write it."""
    first = lines[0]
    if first.startswith("```"):
        lines.pop(0)
        inside = list(_while(lines, lambda line: not line.startswith("```")))
        del lines[:1]
        return f"<pre>{escape(chr(10).join(inside))}</pre>"
    if first.startswith("#"):
        level = min(len(first) - len(first.lstrip("#")) + 1, 4)
        lines.pop(0)
        return f"<h{level}>{_inline(first.lstrip('#').strip())}</h{level}>"
    if first.lstrip().startswith("|"):
        return _table(list(_while(lines, lambda line: line.lstrip().startswith("|"))))
    if _ITEM.match(first):
        return _list(list(_while(lines, lambda line: bool(line.strip()))))
    plain = _while(
        lines, lambda line: bool(line.strip()) and not line.startswith(("#", "```", "|"))
    )
    return f"<p>{_inline(' '.join(line.strip() for line in plain))}</p>"


def _while(lines: list[str], holds: Callable[[str], bool]) -> Iterator[str]:
    while lines and holds(lines[0]):
        yield lines.pop(0)


def _inline(text: str) -> str:
    """Write what stands in a line; what is code stays as it is."""
    parts = _CODE.split(text)
    for index, part in enumerate(parts):
        written = str(escape(part))
        if index % 2:
            parts[index] = f"<code>{written}</code>"
            continue
        for pattern, form in _INLINE:
            written = pattern.sub(form, written)
        parts[index] = written
    return "".join(parts)


def _list(lines: list[str]) -> str:
    items: list[str] = []
    for line in lines:
        if _ITEM.match(line) or not items:
            items.append(_ITEM.sub("", line).strip())
        else:
            items[-1] += f" {line.strip()}"
    kind = "ol" if lines[0].lstrip()[0].isdigit() else "ul"
    return f"<{kind}>{''.join(f'<li>{_inline(item)}</li>' for item in items)}</{kind}>"


def _table(lines: list[str]) -> str:
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    ruled = len(lines) > 1 and bool(_RULE.match(lines[1]))
    head, body = (rows[0], rows[2:]) if ruled else ([], rows)
    out = ""
    if any(head):
        out = f"<thead><tr>{''.join(f'<th>{_inline(one)}</th>' for one in head)}</tr></thead>"
    inside = "".join(
        f"<tr>{''.join(f'<td>{_inline(one)}</td>' for one in row)}</tr>" for row in body
    )
    return f'<table class="rows tight">{out}<tbody>{inside}</tbody></table>'
