"""``overread delivery``: what is on its way to the destinations."""

from __future__ import annotations

from datetime import UTC, datetime
from getpass import getuser
from pathlib import Path
from typing import Annotated, Literal

import typer

from overread.cli.terminal import JsonOption, SiteOption, open_settings, reading, table
from overread.store import deliveries
from overread.store.database import Database
from overread.store.tables import Delivery

app = typer.Typer()

DeliveryArgument = Annotated[str, typer.Argument(help="The delivery's id, or its beginning.")]


@app.command("list")
def list_deliveries(
    site: SiteOption = Path(),
    state: Annotated[
        Literal["queued", "delivered", "waiting", "failed", "held"] | None,
        typer.Option(help="Only those in this state.", show_default="any"),
    ] = None,
    destination: Annotated[str, typer.Option(help="Only those to this destination.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="How many at most, the newest first.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List deliveries, the newest first."""
    query = deliveries.find(destination=destination, state=state or "")
    query = query.order_by(Delivery.created_at.desc(), Delivery.id).limit(limit)
    with reading(open_settings(site)) as session:
        rows = [deliveries.summary(one) for one in session.scalars(query)]
    narrowed = " of this kind" if state or destination else " yet"
    table(
        rows,
        ["id", "destination", "cause", "state", "attempts", "error", "created_at"],
        as_json=as_json,
        empty=f"Nothing was to be sent anywhere{narrowed}.",
        spare=["cause", "created_at"],
    )


@app.command()
def retry(
    delivery: DeliveryArgument, site: SiteOption = Path(), as_json: JsonOption = False
) -> None:
    """Try a delivery again that has failed, waits, or is held."""
    with Database(open_settings(site).database_url).write() as session:
        one = deliveries.retry(session, delivery, at=datetime.now(UTC), actor=getuser())
        row = deliveries.summary(one)
    table([row], ["id", "destination", "state"], as_json=as_json)


@app.command()
def hold(
    delivery: DeliveryArgument, site: SiteOption = Path(), as_json: JsonOption = False
) -> None:
    """Hold a delivery back until it is tried again by hand."""
    with Database(open_settings(site).database_url).write() as session:
        one = deliveries.hold(session, delivery, at=datetime.now(UTC), actor=getuser())
        row = deliveries.summary(one)
    table([row], ["id", "destination", "state"], as_json=as_json)
