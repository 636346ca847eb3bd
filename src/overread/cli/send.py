"""``overread send``: send DICOM files to an AE, as they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from overread.cli.terminal import JsonOption, console, notes, print_json
from overread.errors import Unavailable, UsageError
from overread.settings import check_ae_title
from overread.simulator.scanner import Answer, Peer
from overread.simulator.scanner import send as send_files


def send(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="DICOM files, or folders of them.")
    ],
    to: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where the AE listens.")],
    called: Annotated[str, typer.Option(metavar="AE", help="The AE title that is called.")],
    calling: Annotated[
        str, typer.Option(metavar="AE", help="The AE title that we give.")
    ] = "OVERREAD",
    as_json: JsonOption = False,
) -> None:
    """Send DICOM files by C-STORE, undecoded, each in its own transfer syntax.

    Exits with 1 when any was not accepted, and says why.
    """
    peer = _peer(to, called)
    files = list(_files(paths))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    answers: list[Answer] = []
    error = ""
    with Progress(*columns, console=notes, transient=True, disable=as_json) as progress:
        bar = progress.add_task(f"to {peer}", total=len(files))

        def told(answer: Answer) -> None:
            answers.append(answer)
            progress.advance(bar)

        try:
            send_files(files, peer, calling=_title(calling), told=told)
        except Unavailable as stopped:
            error = _advised(str(stopped), calling)
    answered = {answer.file for answer in answers}
    answers += [
        Answer(file, "", None, f"not sent: {error}") for file in files if file not in answered
    ]
    refused = [answer for answer in answers if not answer.accepted]
    if as_json:
        print_json(
            {
                "to": to,
                "called": called,
                "error": error,
                "files": len(files),
                "accepted": len(answers) - len(refused),
                "not_accepted": [
                    {
                        "file": answer.file,
                        "sop_instance_uid": answer.sop_instance_uid,
                        "status": answer.status,
                        "what": answer.sentence,
                    }
                    for answer in refused
                ],
            }
        )
    elif error and not answered:
        raise Unavailable(error)
    else:
        _say(answers, peer)
    if refused:
        raise typer.Exit(1)


def _advised(error: str, calling: str) -> str:
    """Add what to do to what stopped the sending, where that is known."""
    if "calling ae title not recogni" in error:
        return (
            f"{error}; list {calling} under senders of the receiving site, or give --calling an "
            "AE title that it knows"
        )
    if "called ae title not recogni" in error:
        return f"{error}; give --called an AE title that it answers for"
    return error


def _say(answers: list[Answer], peer: Peer) -> None:
    refused = [answer for answer in answers if not answer.accepted]
    console.print(f"{len(answers) - len(refused)} of {len(answers)} accepted by {peer}.")
    for answer in refused:
        console.print(escape(f"{answer.file}: {answer.sentence}"), soft_wrap=True, highlight=False)
    warned = Counter(one.sentence for one in answers if one.accepted and one.status != 0)
    for sentence, count in warned.items():
        console.print(f"{count} {sentence}")


def _files(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path} does not exist; expected a DICOM file or a folder of them")
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.is_file())
        else:
            yield path


def _peer(to: str, called: str) -> Peer:
    host, _, port = to.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError(f"--to {to!r} is not HOST:PORT, such as 127.0.0.1:11112")
    return Peer(host.strip("[]"), int(port), _title(called))


def _title(value: str) -> str:
    try:
        return check_ae_title(value)
    except ValueError as error:
        raise UsageError(str(error)) from error
