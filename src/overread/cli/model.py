"""``overread model``: what models a site has, and what they were made for."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from overread.cli.add import add
from overread.cli.bundle import import_bundle
from overread.cli.profile import gather, samples
from overread.cli.terminal import (
    JsonOption,
    SiteOption,
    console,
    count,
    notes,
    open_site,
    print_json,
    table,
)
from overread.errors import Refused, UsageError
from overread.measures.appearance import HIGHEST
from overread.pipelines.envelope import LEAST_MARGIN, learn
from overread.pipelines.model import Envelope

app = typer.Typer()
app.command()(add)
app.command("import-bundle")(import_bundle)


@app.command("list")
def list_models(site: SiteOption = Path(), as_json: JsonOption = False) -> None:
    """List the site's models."""
    rows = [
        {
            "model": reference,
            "title": model.card.title,
            "task": model.card.task,
            "runtime": model.card.runtime,
            "modality": model.card.input.modality,
            "sha256": model.card.sha256,
            "file": model.file,
        }
        for reference, model in open_site(site).models.items()
    ]
    columns = ("model", "title", "task", "runtime", "modality")
    table(rows, columns, as_json=as_json, empty="The site has no models.", spare=("title",))


@app.command()
def verify(site: SiteOption = Path()) -> None:
    """Compare each model's files with the digests that its card states."""
    models = open_site(site, verify=True).models
    console.print(f"{count(len(models), 'model')}: every file is the one that its card describes")


@app.command()
def profile(  # noqa: PLR0917  (typer makes options of them)
    paths: Annotated[list[Path], typer.Argument(help="Folders of training images, or files.")],
    pattern: Annotated[
        str, typer.Option(help="What a file's name must match: leaves out masks, for example.")
    ] = "*",
    modality: Annotated[
        str, typer.Option(help="Modality of NIfTI and NRRD files, which do not say it.")
    ] = "",
    spacing: Annotated[
        str,
        typer.Option(
            metavar="S,R,C",
            help="Spacing in mm between slices, rows, columns of NIfTI and NRRD files whose own "
            "was lost.",
        ),
    ] = "",
    margin: Annotated[
        float, typer.Option(min=0, help="By how much of its width a range is widened, each side.")
    ] = 0.5,
    as_json: JsonOption = False,
) -> None:
    """Learn from training images what a model may be given: the `input:` of its model.yaml.

    Ranges go from the lowest to the highest value seen, widened by the margin. Look at them before
    you use them: they are no better than the images are many and varied.
    """
    listed = samples(paths, pattern, modality, _spacing(spacing))
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=notes,
    ) as progress:
        bar = progress.add_task("looking at training images", total=len(listed))
        known, unread = gather(listed, lambda _name: progress.advance(bar))
    for name, why in unread:
        notes.print(f"left out: {escape(name)}: {escape(why)}", soft_wrap=True)
    if not known:
        raise Refused("none of the training images could be read, so nothing was learnt of them")
    learnt = learn(known, margin, HIGHEST)
    Envelope.model_validate(learnt)
    if as_json:
        print_json({"input": learnt, "images": len(known), "left_out": dict(unread)})
        return
    how = (
        f"learnt from {count(len(known), 'image')}; each range widened by {margin:g} of its width, "
        f"and at least by {LEAST_MARGIN:g} of its middle"
    )
    console.print(_yaml(learnt, how), markup=False, highlight=False, soft_wrap=True, end="")


def _spacing(written: str) -> tuple[float, float, float] | None:
    if not written:
        return None
    try:
        between, rows, columns = (float(part) for part in written.split(","))
    except ValueError:
        between = rows = columns = 0.0
    if not min(between, rows, columns) > 0:
        raise UsageError(f"--spacing {written}: three distances in mm, as 6.5,0.86,0.86")
    return between, rows, columns


def _yaml(learnt: dict[str, Any], how: str) -> str:
    """Write an ``input:`` block, its ranges on one line each."""
    document = CommentedMap({"input": _flow(learnt)})
    document.yaml_set_start_comment(how)
    out = io.StringIO()
    writer = YAML()
    writer.width = 100
    writer.dump(document, out)
    return out.getvalue()


def _flow(value: Any) -> Any:
    if isinstance(value, dict):
        return CommentedMap({key: _flow(item) for key, item in value.items()})
    if isinstance(value, list):
        row = CommentedSeq(value)
        row.fa.set_flow_style()
        return row
    return value
