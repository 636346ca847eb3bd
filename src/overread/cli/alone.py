"""``overread pipeline run`` and ``overread operator run``: on files, without a server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import nibabel
import numpy as np
import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from overread.cli.terminal import JsonOption, SiteOption, console, notes, open_site, print_json
from overread.dicom.codes import TISSUE, Segment
from overread.dicom.metaimage import save_mhd
from overread.dicom.study import Exam, Instance, Series
from overread.dicom.volume import Mask, Volume
from overread.engine import alone, worker
from overread.engine.alone import Ran
from overread.errors import UsageError
from overread.operators import files, page
from overread.pipelines.check import near, type_name
from overread.pipelines.job import StepState
from overread.pipelines.ports import signature
from overread.site import SiteFolder
from overread.validation.results import Classification, Detections, Measurements

pipelines = typer.Typer()
operators = typer.Typer()

_MARK = ".overread-run"
"""Says that a folder is one that an earlier run has made, and may be replaced."""

OutOption = Annotated[
    Path, typer.Option("--out", help="Folder for what each step makes; replaced if a run made it.")
]
MhdOption = Annotated[
    bool, typer.Option("--mhd", help="Also save volumes and masks as MetaImage: image.mhd.")
]
HereOption = Annotated[
    bool,
    typer.Option("--here", help="Run in this process, without the box, so that a debugger works."),
]


@pipelines.callback()
def _pipeline_noun() -> None:
    """Pipelines, on files."""


@operators.callback()
def _operator_noun() -> None:
    """Operators, on files."""


@pipelines.command("run")
def run_pipeline(  # noqa: PLR0917  (typer makes options of them)
    name: Annotated[str, typer.Argument(help="The pipeline's name.")],
    paths: Annotated[list[Path], typer.Argument(help="DICOM files or folders: one exam.")],
    site: SiteOption = Path(),
    out: OutOption = Path("run"),
    here: HereOption = False,
    mhd: MhdOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run a whole pipeline on the files of an exam, with no server."""
    loaded = open_site(site, verify=True)
    if name not in loaded.pipelines:
        expected = near(name, loaded.pipelines, "pipeline")
        raise UsageError(f"the site has no pipeline {name!r}; expected {expected}")
    pipeline = loaded.pipelines[name]
    images, skipped = alone.read_folder(paths)
    alone.check_one_exam(images, pipeline)
    with _made(out) as folder, _Bars(len(pipeline.steps)) as bars, _place(
        loaded, folder, here, bars
    ) as run:  # fmt: skip
        ran = alone.run_pipeline(loaded, pipeline, images, folder, run, bars.told)
    if mhd:
        _save_mhd(ran)
    _show(ran, [step for step in ran if step.step in pipeline.results], skipped, as_json)


@operators.command("run")
def run_operator(  # noqa: PLR0917  (typer makes options of them)
    name: Annotated[str, typer.Argument(help="The operator's name.")],
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--in",
            metavar="PORT=PATH",
            help="What an input takes: a DICOM folder, NIfTI file, or a step's output folder.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting; the value is YAML."),
    ] = None,
    site: SiteOption = Path(),
    out: OutOption = Path("run"),
    here: HereOption = False,
    mhd: MhdOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run one operator alone, on files.

    Without a site folder only what is installed is there, and no model.
    """
    loaded = _with_operator(name, site)
    ports = signature(name, loaded.operators[name])
    given = dict(_pairs(inputs or [], "--in PORT=PATH"))
    for port in given:
        if ports.takes(port) is None:
            expected = near(port, ports.inputs, "input")
            raise UsageError(f"{name} has no input {port!r}; expected {expected}")
    for port in ports.inputs:
        if port not in given and port not in ports.optional:
            kind = type_name(ports.inputs[port])
            raise UsageError(f"{name} needs its input {port}: --in {port}=PATH, to a {kind}")
    read = {key: _value(key, text) for key, text in _pairs(settings or [], "--set KEY=VALUE")}
    with _made(out) as folder, _Bars(1) as bars, _place(loaded, folder, here, bars) as run:
        objects = {
            port: open_as(Path(path), _kind(ports.takes(port)), folder)
            for port, path in given.items()
        }
        ran = alone.run_operator(loaded, name, objects, read, folder, run, bars.told)
    if mhd:
        _save_mhd([ran])
    _show([ran], [ran], [], as_json)


def _with_operator(name: str, site: Path) -> SiteFolder:
    """Open the site, or none where there is none, and make sure that it has the operator."""
    there = (site / "overread.yaml").exists()
    loaded = open_site(site) if there else _no_site()
    if name not in loaded.operators:
        told = f"no operator {name!r}; expected {near(name, loaded.operators, 'operator')}"
        hint = "" if there else f". Operators of a site's own need --site: {site} is no site folder"
        raise UsageError(told + hint)
    return loaded


def _value(key: str, text: str) -> Any:
    try:
        return YAML(typ="safe").load(text)
    except YAMLError as error:
        told = str(getattr(error, "problem", "") or error).splitlines()[0]
        raise UsageError(f"--set {key}={text} is not valid YAML: {told}") from error


def _kind(wanted: Any) -> Any:
    """Say what a file is opened as for an input that takes everything."""
    return Series | Volume if wanted is Any else wanted


@operators.command("show")
def show_operator(
    name: Annotated[str, typer.Argument(help="The operator's name.")], site: SiteOption = Path()
) -> None:
    """Show an operator's page: what it takes, its settings, what it makes."""
    loaded = _with_operator(name, site)
    typer.echo(page.page(name, loaded.operators[name]))


def open_as(path: Path, kind: Any, folder: Path) -> object:
    """Open a file or folder as what an input port takes.

    Parameters
    ----------
    path : Path
        A folder with a ``port.json``, as a step leaves it; else DICOM files, a NIfTI file, or JSON.
    kind : type
        The port's type, or a union of them.
    folder : Path
        Where DICOM files are copied to.

    Raises
    ------
    UsageError
        There is nothing, or nothing that the port takes.
    """
    if not path.exists():
        raise UsageError(f"there is no file or folder {path}")
    wanted = [one.__name__ for one in getattr(kind, "__args__", (kind,))]
    if (path / files.PORT).exists():
        return files.load(path)
    if path.name.endswith((".nii", ".nii.gz")):
        return _nifti(path, wanted)
    if path.suffix == ".json":
        data = json.loads(path.read_text(encoding="utf-8"))
        plain = next((files.PLAIN[one] for one in wanted if one in files.PLAIN), None)
        if plain is None:
            raise UsageError(f"{path} is JSON; the input takes {' or '.join(wanted)}")
        return plain.from_json(data)
    images, _ = alone.read_folder([path])
    exam = _copied(images, folder)
    if "Series" in wanted and "Exam" not in wanted:
        series = exam.series()
        if len(series) > 1:
            raise UsageError(f"{path} holds {len(series)} series; the input takes one")
        return series[0]
    if "Exam" not in wanted:
        raise UsageError(f"{path} holds DICOM images; the input takes {' or '.join(wanted)}")
    return exam


def _copied(images: Sequence[Path], folder: Path) -> Exam:
    """Copy images to where the box can read them."""
    from pydicom import dcmread

    place = folder / "_images"
    place.mkdir(exist_ok=True)
    begun = len(list(place.iterdir()))
    copies = []
    for number, file in enumerate(images, start=begun + 1):
        copies.append(Path(shutil.copyfile(file, place / f"{number:05}.dcm")))
    return Exam(
        tuple(Instance(dcmread(file, stop_before_pixels=True, force=True), file) for file in copies)
    )


def _nifti(path: Path, wanted: Sequence[str]) -> Volume | Mask:
    """Read a NIfTI file: labels where the port takes a mask and no volume, else values."""
    loaded: Any = nibabel
    image = loaded.load(path)
    array = np.asarray(image.dataobj)
    if array.ndim != 3:
        raise UsageError(f"{path} has {array.ndim} axes; 3 were expected")
    affine = files.to_ras(np.asarray(image.affine, np.float64))  # its own inverse
    if "Mask" not in wanted:
        return Volume(np.asarray(array.T, np.float32), affine)
    labels = np.asarray(array.T)
    found = [int(value) for value in np.unique(labels) if value > 0]
    kind = np.uint8 if max(found, default=0) < 256 else np.uint16
    return Mask(
        labels.astype(kind),
        affine,
        tuple(Segment(value, f"Label {value}", TISSUE, TISSUE) for value in found),
    )


def _pairs(texts: Sequence[str], form: str) -> Iterator[tuple[str, str]]:
    for text in texts:
        key, parted, value = text.partition("=")
        if not parted or not key:
            raise UsageError(f"{text!r} is not of the form {form}")
        yield key, value


def _no_site() -> SiteFolder:
    """Return a site with nothing of its own, for operators that need none."""
    from tempfile import mkdtemp

    from overread import examples

    folder = Path(mkdtemp(prefix="overread-"))
    examples.copy("plain", folder)
    return open_site(folder)


@contextmanager
def _made(out: Path) -> Iterator[Path]:
    """Make the folder of a run, in place of that of an earlier one."""
    if out.exists() and any(out.iterdir()):
        if not (out / _MARK).exists():
            raise UsageError(f"{out} is not empty, and no run has made it; --out names another")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / _MARK).touch()
    yield out.resolve()


@contextmanager
def _place(site: SiteFolder, folder: Path, here: bool, bars: _Bars) -> Iterator[alone.Run]:
    place = alone.here if here else alone.in_a_box
    run, end = place(replace(worker.box(site), work=folder), bars.progress, site.settings)
    try:
        yield run
    finally:
        end()


class _Bars:
    """Progress in the terminal: a bar of the steps, and one of the step that runs."""

    def __init__(self, steps: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TimeElapsedColumn(), console=notes, transient=True,
        )  # fmt: skip
        self._steps = self._progress.add_task("steps", total=steps)
        self._step = self._progress.add_task("", total=None, visible=False)

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def told(self, ran: Ran) -> None:
        """Look at a step."""
        if ran.state == StepState.RUNNING:
            self._progress.reset(self._step, description=f"{ran.step}", total=None, visible=True)
        else:
            self._progress.advance(self._steps)

    def progress(self, done: int, of: int, what: str) -> None:
        """Show how far a step is."""
        self._progress.update(self._step, completed=done, total=of)
        del what


def _save_mhd(ran: Sequence[Ran]) -> None:
    for one in ran:
        if one.folder is not None and one.made in ("Volume", "Mask"):
            made = files.load(one.folder)
            assert isinstance(made, Volume | Mask)  # noqa: S101, for the type checker
            save_mhd(made, one.folder / "image.mhd")


def _show(
    ran: Sequence[Ran], results: Sequence[Ran], skipped: Sequence[tuple[str, str]], as_json: bool
) -> None:
    """Show the table of steps, and what came out; exit 1 where a step did not end well."""
    ended = next((one for one in ran if one.state in (StepState.FAILED, StepState.REFUSED)), None)
    if as_json:
        steps = [
            {
                **asdict(one),
                "folder": one.folder and str(one.folder),
                "log": one.log and str(one.log),
            }
            for one in ran
        ]
        print_json({"steps": steps, "results": [_result(one) for one in results if one.folder]})
    else:
        for file, why in skipped:
            notes.print(escape(f"{file}: {why}"), style="dim", soft_wrap=True)
        console.print(_steps(ran))
        for one in ran:
            for note in one.account.get("notes", []):
                console.print(escape(f"{one.step}: {note}"), style="dim", soft_wrap=True)
        for one in results:
            if one.folder is not None:
                _print_result(one)
    if ended is not None:
        if not as_json:
            told = f"{ended.step} {ended.state}: {ended.reason}"
            notes.print(f"[red]{escape(told)}[/red]", soft_wrap=True)
            if ended.log is not None:
                notes.print(escape(f"what it printed: {ended.log}"), soft_wrap=True)
        raise typer.Exit(1)


def _steps(ran: Sequence[Ran]) -> Table:
    out = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("step", "operator", "state", "made", "seconds"):
        out.add_column(column, overflow="fold", justify="right" if column == "seconds" else "left")
    for one in ran:
        seconds = f"{one.seconds:.2f}" if one.state != "waiting" else ""
        cells = (one.step, one.operator, one.state, one.made, seconds)
        out.add_row(*(escape(cell) for cell in cells))
    return out


def _result(one: Ran) -> dict[str, Any]:
    assert one.folder is not None  # noqa: S101, for the type checker: only those with one are shown
    plain = files.PLAIN.get(one.made)
    file = one.folder / files.plain_file(plain) if plain else None
    data = json.loads(file.read_text(encoding="utf-8")) if file else {}
    return {"name": one.step, "type": one.made, "folder": str(one.folder), **data}


def _print_result(one: Ran) -> None:
    value = files.load(one.folder) if one.folder else None
    console.print(f"\n[bold]{escape(one.step)}[/bold] {escape(str(one.folder))}", soft_wrap=True)
    match value:
        case Measurements():
            for item in value.items:
                shown = np.format_float_positional(item.value, 4, fractional=False, trim="-")
                line = f"  {item.region}: {item.quantity} {shown} {item.unit}"
                console.print(escape(line), highlight=False)
        case Detections():
            for found in value:
                console.print(escape(f"  {found.label}: {found.score:.2f}"), highlight=False)
        case Classification():
            for said in value:
                line = f"  {said.region}: {said.label} ({said.probability:.2f})"
                console.print(escape(line), highlight=False)
        case _:
            return
