"""Write what was found as a page that people read: an encapsulated PDF (PS3.3 A.45.1)."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Annotated, Any
from xml.sax.saxutils import escape

import numpy as np
from pydantic import Field
from pydicom import Dataset
from pydicom.uid import EncapsulatedPDFStorage
from pydicom.valuerep import DA, TM, PersonName

from overread.dicom import derived
from overread.dicom.derived import Making
from overread.dicom.provenance import DerivedObject
from overread.dicom.study import Exam, Series, day
from overread.operators.making import Tags, making
from overread.pipelines.ports import Account, Context
from overread.validation.results import Classification, Detections, Measurements

if TYPE_CHECKING:
    from reportlab.platypus import Flowable

MARGIN_MM = 18
LABEL_MM = 30
IMAGE_WIDTH_MM = 82
"""Two images beside each other on a page of A4 or Letter."""


def write_pdf(  # noqa: PLR0917 - ports are positional
    source: Series | Exam,
    context: Context,
    account: Account,
    measurements: Measurements | None = None,
    detections: Detections | None = None,
    classification: Classification | None = None,
    capture: DerivedObject | None = None,
    *,
    title: Annotated[str, Field(min_length=1, max_length=64)] = "Findings",
    text: str = "",
    images: Annotated[int, Field(ge=0, le=24)] = 4,
    tags: Tags | None = None,
) -> DerivedObject:
    """Write what was measured and found as a PDF inside a DICOM object.

    The page names patient, study and accession, model and pipeline with their versions and the
    weights' digest, lists every value with its unit and method, and shows the key images of a
    capture. Outside the stage *clinical* a banner says on each page that it is investigational.
    It is drawn with the fonts that every PDF viewer has; what they have no letter for is shown as
    a question mark, and the step's notes say so.

    Parameters
    ----------
    source : Series or Exam
        The images that were looked at; the document is put into their Study.
    measurements, detections, classification : optional
        What is listed.
    capture : DerivedObject, optional
        What `write_capture` drew; its first frames are shown.
    title : str
        Heading of the page, and DocumentTitle.
    text : str
        A paragraph below the heading: what the reader should know of this model.
    images : int
        How many frames of the capture are shown at most.
    tags : dict, optional
        Attributes to set, by keyword: ``{SeriesDescription: "AI report"}``.

    Returns
    -------
    DerivedObject
        An Encapsulated PDF object; its text holds the patient's identity, and it says so.

    Raises
    ------
    ValueError
        ``capture`` is no capture.
    """
    if capture is not None and capture.kind != "capture":
        raise ValueError(f"write_pdf takes a capture; it was given a {capture.kind}")
    model = (detections or classification or Detections(())).model
    facts = making(context, model, tags)
    header = source.instances[0].header
    page = _Page(facts, derived.clean(header), title)
    page.paragraph(text)
    page.measurements(measurements)
    page.detections(detections)
    page.classes(classification)
    page.pictures(capture, images)
    document = page.draw()
    if page.unreadable:
        account.notes.append("some letters of the text are not in the fonts of the page")
    account.used.extend((one.uid, "source image") for one in source)
    made = _encapsulate(document, header, facts, title)
    made.SourceInstanceSequence = [derived.reference(one) for one in source]
    return derived.finish(made, header, facts, kind="document", sources=(one.uid for one in source))


def _encapsulate(document: bytes, header: Dataset, facts: Making, title: str) -> Dataset:
    """Put a PDF into an object: the Encapsulated Document module (PS3.3 C.24.2)."""
    made = derived.start(
        header, facts, sop_class=EncapsulatedPDFStorage, modality="DOC", description=title
    )
    local = facts.local(header)
    made.ConversionType = "WSD"
    made.ContentDate, made.ContentTime = DA(local.date()), TM(local.time())
    made.AcquisitionDateTime = None
    made.BurnedInAnnotation = "YES"
    made.DocumentTitle = facts.describe(title)
    made.ConceptNameCodeSequence = []
    made.VerificationFlag = "UNVERIFIED"
    made.MIMETypeOfEncapsulatedDocument = "application/pdf"
    made.EncapsulatedDocumentLength = len(document)
    made.EncapsulatedDocument = document + b"\0" * (len(document) % 2)
    return made


class _Page:
    """Gathers what stands on the page, and draws it."""

    def __init__(self, facts: Making, header: Dataset, title: str) -> None:
        from reportlab.lib.styles import getSampleStyleSheet

        self.unreadable = False
        self._facts, self._header, self._title = facts, header, title
        self._styles = getSampleStyleSheet()
        self._story: list[Flowable] = []
        self.paragraph(title, "Title")
        self._identity()

    def paragraph(self, text: str, style: str = "BodyText") -> None:
        """Add a paragraph of plain text."""
        from reportlab.platypus import Paragraph

        if text:
            self._story.append(Paragraph(escape(self._shown(text)), self._styles[style]))

    def measurements(self, given: Measurements | None) -> None:
        """Add the table of measurements."""
        if given is None:
            return
        rows = [
            (one.region, one.quantity, f"{one.value:.4g} {_unit(one.unit)}", one.method)
            for one in given.items
        ]
        self._table("Measurements", ("region", "quantity", "value", "method"), rows)

    def detections(self, given: Detections | None) -> None:
        """Add the table of detections."""
        if given is None:
            return
        rows = [
            (one.id, one.label, f"{one.score:.2f}", " ".join(f"{side:.0f}" for side in one.box))
            for one in given
        ]
        names = ("", "found", "score", "box (columns and rows of the image)")
        self._table("Detections", names, rows)

    def classes(self, given: Classification | None) -> None:
        """Add the table of classes."""
        if given is None:
            return
        rows = [
            (
                one.region,
                one.label,
                f"{one.probability:.2f}",
                ", ".join(f"{label} {value:.2f}" for label, value in one.probabilities.items()),
            )
            for one in given
        ]
        self._table("Classification", ("region", "class", "probability", "of all classes"), rows)

    def pictures(self, capture: DerivedObject | None, most: int) -> None:
        """Add the first frames of a capture, two beside each other."""
        from PIL import Image as Picture
        from reportlab.lib.units import mm
        from reportlab.platypus import Image, KeepTogether, Table

        if capture is None or most == 0:
            return
        pixels = capture.dataset.pixel_array
        frames = pixels if pixels.ndim == 4 else pixels[None]
        cells = []
        for frame in frames[:most]:
            file = BytesIO()
            Picture.fromarray(np.ascontiguousarray(frame)).save(file, "PNG")
            width = IMAGE_WIDTH_MM * mm
            cells.append(Image(file, width, width * frame.shape[0] / frame.shape[1]))
        rows: list[list[Any]] = [
            [*cells[at : at + 2], *([""] if len(cells) - at < 2 else [])]
            for at in range(0, len(cells), 2)
        ]
        self.paragraph("Key images", "Heading2")
        heading = self._story.pop()
        self._story.append(KeepTogether([heading, Table(rows[:1], hAlign="LEFT")]))
        if rows[1:]:
            self._story.append(Table(rows[1:], hAlign="LEFT"))

    def draw(self) -> bytes:
        """Draw everything; the same content gives the same bytes."""
        from reportlab.lib.pagesizes import A4
        from reportlab.lib.units import mm
        from reportlab.platypus import SimpleDocTemplate

        file = BytesIO()
        margin = MARGIN_MM * mm
        SimpleDocTemplate(
            file, pagesize=A4, leftMargin=margin, rightMargin=margin, topMargin=margin + 6 * mm,
            bottomMargin=margin, title=self._title, author=derived.MANUFACTURER, invariant=1,
        ).build(self._story, onFirstPage=self._frame, onLaterPages=self._frame)  # fmt: skip
        return file.getvalue()

    def _identity(self) -> None:
        header, algorithm = self._header, self._facts.algorithm
        digest = dict(algorithm.parameters).get("sha256", "")
        rows = [
            ("Patient", _name(header)),
            ("Patient ID", str(header.get("PatientID", ""))),
            ("Born", _day(header.get("PatientBirthDate"))),
            ("Study", f"{_day(header.get('StudyDate'))} {header.get('StudyDescription', '')}"),
            ("Accession", str(header.get("AccessionNumber", ""))),
            ("Model", f"{algorithm.name} {algorithm.version}"),
            ("Weights", f"SHA-256 {digest}" if digest else ""),
            ("Pipeline", self._facts.device),
            ("Made", f"{self._facts.local(header):%Y-%m-%d %H:%M %z}"),
        ]
        self._table("", ("", ""), [row for row in rows if row[1].strip()])

    def _table(self, heading: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        from reportlab.lib import colors
        from reportlab.lib.units import mm
        from reportlab.platypus import Paragraph, Table, TableStyle

        self.paragraph(heading, "Heading2")
        if not rows:
            self.paragraph("None.")
            return
        body = self._styles["BodyText"]
        cells = [[Paragraph(escape(self._shown(text)), body) for text in row] for row in rows]
        if any(names):
            cells.insert(0, [Paragraph(f"<b>{escape(name)}</b>", body) for name in names])
        widths = [LABEL_MM * mm, None] if len(names) == 2 else None
        ruled = TableStyle([("LINEBELOW", (0, 0), (-1, -1), 0.25, colors.lightgrey),
                            ("VALIGN", (0, 0), (-1, -1), "TOP")])  # fmt: skip
        self._story.append(
            Table(cells, hAlign="LEFT", colWidths=widths, style=ruled, repeatRows=int(any(names)))
        )

    def _frame(self, canvas: Any, document: Any) -> None:
        """Draw what stands on every page, so that a page alone says whose it is."""
        from reportlab.lib import colors
        from reportlab.lib.units import mm

        width, height = document.pagesize
        margin = MARGIN_MM * mm
        canvas.setFont("Helvetica", 8)
        header = self._header
        foot = f"{header.get('PatientID', '')}   {header.get('AccessionNumber', '')}"
        canvas.drawString(margin, margin - 6 * mm, self._shown(foot))
        canvas.drawRightString(width - margin, margin - 6 * mm, f"page {canvas.getPageNumber()}")
        if self._facts.investigational:
            canvas.setFillColor(colors.HexColor("#8a1c1c"))
            canvas.setFont("Helvetica-Bold", 10)
            banner = "INVESTIGATIONAL: an AI result, not for diagnosis or treatment"
            canvas.drawString(margin, height - margin, banner)

    def _shown(self, text: str) -> str:
        """Replace what the standard fonts (WinAnsi) have no letter for."""
        shown = text.encode("cp1252", "replace").decode("cp1252")
        self.unreadable |= shown != text
        return shown


def _name(header: Dataset) -> str:
    """Name the patient as people do, by the alphabetic form of the name."""
    name = PersonName(str(header.get("PatientName", "")))
    return ", ".join(part for part in (name.family_name, name.given_name) if part)


def _unit(unit: str) -> str:
    return {"1": "", "[hnsf'U]": "HU"}.get(unit, unit)


def _day(value: object) -> str:
    found = day(str(value or ""))
    return f"{found:%Y-%m-%d}" if found else ""
