"""``overread link``: links to the portal, signed as a PACS would."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode

import typer

from overread.cli.terminal import SiteOption, open_settings
from overread.errors import UsageError
from overread.validation import links

app = typer.Typer(no_args_is_help=True, help="Links from a PACS.")


@app.callback()
def links_() -> None:
    """Links from a PACS."""


@app.command()
def sign(
    *,
    accession: Annotated[str, typer.Option(help="The exam's accession number.")],
    pipeline: Annotated[str, typer.Option(help="A pipeline's name.")] = "",
    project: Annotated[str, typer.Option(help="A project's name.")] = "",
    patient: Annotated[str, typer.Option(help="The PatientID.")] = "",
    minutes: Annotated[int, typer.Option(min=1, max=1440, help="How long it opens.")] = 5,
    site: SiteOption = Path(),
) -> None:
    """Print a signed link, to compare with what a PACS makes."""
    portal = open_settings(site).portal
    if portal.link_key is None:
        raise UsageError(
            "the site has no key for links; set portal.link_key in overread.yaml to one that the "
            "PACS knows too"
        )
    asked = {"accession": accession, "pipeline": pipeline, "project": project, "patient": patient}
    expires = int((datetime.now(UTC) + timedelta(minutes=minutes)).timestamp())
    signed = links.sign(
        {name: value for name, value in asked.items() if value},
        portal.link_key.get_secret_value(),
        expires,
    )
    scheme = "https" if portal.certificate else "http"
    address = portal.address or f"{scheme}://{portal.host}:{portal.port}"
    typer.echo(f"{address.rstrip('/')}/open?{urlencode(signed)}")
