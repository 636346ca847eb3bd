from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from typer.testing import CliRunner

from overread.cli.link import app
from overread.errors import UsageError
from overread.validation.links import Standing, standing

KEY = "0123456789abcdef0123456789abcdef"


def run(site: Path, *arguments: str) -> str:
    result = CliRunner().invoke(app, ["sign", *arguments, "--site", str(site)])
    if result.exception is not None:
        raise result.exception
    return result.stdout.strip()


def test_a_link_is_signed_with_the_sites_key(tmp_path: Path) -> None:
    (tmp_path / "overread.yaml").write_text(
        f"site: {{name: T}}\nportal: {{link_key: {KEY}, address: 'https://o.example'}}\n"
    )
    said = urlsplit(run(tmp_path, "--accession", "A 17/3", "--project", "hip"))
    assert f"{said.scheme}://{said.netloc}{said.path}" == "https://o.example/open"
    pairs = parse_qsl(said.query)
    assert dict(pairs)["accession"] == "A 17/3"
    assert "patient" not in dict(pairs)
    now = datetime.now(UTC).timestamp()
    assert standing(pairs, KEY, now) is Standing.SIGNED
    assert standing(pairs, KEY, now + 400) is Standing.EXPIRED


def test_without_a_key_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "overread.yaml").write_text("site: {name: T}\n")
    with pytest.raises(UsageError, match=r"set portal\.link_key"):
        run(tmp_path, "--accession", "A1")
