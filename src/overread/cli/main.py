"""The command ``overread``: its nouns put together, and its exit codes.

Exit codes: 0 done, 1 failed, 2 wrong usage or wrong site.
"""

from __future__ import annotations

import sys

import typer
from rich.markup import escape

from overread import __version__
from overread.cli import (
    alone,
    audit,
    delivery,
    demo,
    doctor,
    exam,
    form,
    job,
    link,
    model,
    route,
    send,
    serve,
    site,
    user,
    why,
)
from overread.cli.terminal import notes
from overread.errors import OverreadError, SiteError, UsageError

app = typer.Typer(
    name="overread",
    help="Puts a radiology model in front of clinicians, and measures whether it helps.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

for command in (
    site.init,
    site.check,
    site.plugins,
    serve.serve,
    serve.receiver,
    serve.worker,
    serve.portal,
    demo.demo,
    send.send,
    why.why,
    doctor.doctor,
):
    app.command()(command)
for name, noun, about in (
    ("route", route.app, "Where images go, and why."),
    ("pipeline", alone.pipelines, "Pipelines, run on files."),
    ("operator", alone.operators, "Operators, run on files."),
    ("exam", exam.app, "What has gathered."),
    ("job", job.app, "What has run."),
    ("delivery", delivery.app, "What is on its way to the destinations."),
    ("model", model.app, "What models there are, and what they were made for."),
    ("form", form.app, "What readers are asked."),
    ("user", user.app, "Who may sign in."),
    ("link", link.app, "Links from a PACS."),
    ("audit", audit.app, "What was done, and by whom."),
):
    app.add_typer(noun, name=name, help=about, no_args_is_help=True)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"overread {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Put a radiology model in front of clinicians, and measure whether it helps."""


def main() -> None:
    """Run the command line; an error of ours becomes its message and its exit code."""
    try:
        app()
    except SiteError as error:
        for fault in error.faults:
            notes.print(escape(str(fault)), highlight=False, soft_wrap=True)
        sys.exit(2)
    except UsageError as error:
        notes.print(f"[red]{escape(str(error))}[/red]", soft_wrap=True)
        sys.exit(2)
    except OverreadError as error:
        notes.print(f"[red]{escape(str(error))}[/red]", soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
