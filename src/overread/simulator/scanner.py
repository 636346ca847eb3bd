"""A scanner, as far as a hospital's network sees it: it makes images and sends them by C-STORE."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.status import code_to_category

from overread.destinations.dimse import prepare_requestor
from overread.errors import Unavailable
from overread.simulator import images, instances
from overread.simulator.instances import Order

_CONTEXTS = 128
"""Presentation contexts that one association can propose (PS3.8 9.3.2.2: odd ids 1 to 255)."""

# PS3.4 table B.2-1 and PS3.7 annex C, in words for the person at the sending end.
_MEANINGS = {
    0x0000: "accepted",
    0x0122: "refused: SOP class not supported",
    0x0124: "refused: not authorised",
    0xA7: "refused: out of resources",
    0xA9: "failed: data set does not match its SOP class or its identifiers",
    0xB0: "accepted with a warning",
    0xC0: "failed: the data set cannot be understood",
}


@dataclass(frozen=True)
class Peer:
    """The AE that images are sent to."""

    host: str
    port: int
    ae_title: str

    def __str__(self) -> str:
        return f"{self.ae_title} at {self.host}:{self.port}"


@dataclass(frozen=True)
class Answer:
    """What became of one file.

    Attributes
    ----------
    status : int or None
        The DIMSE status that was answered; none if nothing was (the sentence says why).
    sentence : str
        What that means.
    """

    file: Path
    sop_instance_uid: str
    status: int | None
    sentence: str

    @property
    def accepted(self) -> bool:
        """Whether the peer has the image: success, or success with a warning."""
        return self.status is not None and code_to_category(self.status) in {"Success", "Warning"}


@dataclass(frozen=True)
class _Parcel:
    file: Path
    sop_class: UID
    sop_instance: str
    transfer_syntax: UID
    study: str


def acquire(source: Path, order: Order, folder: Path) -> list[Path]:
    """Make the order's images from a file or folder, and write them as DICOM files.

    Parameters
    ----------
    source : Path
        A NIfTI or NRRD image, a DICOM file, or a folder of DICOM files.
    order : Order
        What is written on the images.
    folder : Path
        Where they are written.

    Returns
    -------
    list of Path
        In the order in which they are to be sent.

    Raises
    ------
    UsageError
        The source cannot be read.
    """
    if images.is_image(source):
        volume = images.as_scanned(images.read_image(source))
        return instances.write(instances.make_instances(volume, order), folder)
    return instances.write(instances.renamed(instances.read_dicom(source), order), folder)


def send(
    files: Iterable[Path],
    peer: Peer,
    *,
    calling: str = "SCANNER",
    pause: float = 0.0,
    told: Callable[[Answer], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> list[Answer]:
    """Send DICOM files, undecoded, each in its own transfer syntax, one association per study.

    Parameters
    ----------
    files : iterable of Path
        PS3.10 files. What is no such file is answered for with a sentence, and not sent.
    peer : Peer
        Where to.
    calling : str
        AE title that we give.
    pause : float
        Seconds between two images: a scanner at work takes seconds, 0 is full speed.
    told : callable
        Called with each answer as it comes.
    stop : threading.Event, optional
        Set it to end early; the images not yet sent are not in the answers.

    Returns
    -------
    list of Answer
        One for each file, in the order in which they were dealt with.

    Raises
    ------
    Unavailable
        The peer cannot be reached, or rejects the association.
    """
    # The only way in which pynetdicom sends a file's bytes as they are; it is per process.
    _config.STORE_SEND_CHUNKED_DATASET = True
    stop = stop or threading.Event()
    answers: list[Answer] = []

    def answer(one: Answer) -> None:
        answers.append(one)
        told(one)

    parcels = []
    for file in files:
        parcel = _parcel(file)
        if isinstance(parcel, Answer):
            answer(parcel)
        else:
            parcels.append(parcel)
    for batch in _batches(parcels):
        if stop.is_set():
            break
        association = _associate(batch, peer, calling)
        try:
            for index, parcel in enumerate(batch):
                if stop.is_set() or (index and pause and stop.wait(pause)):
                    break
                answer(_store(association, parcel))
        finally:
            if association.is_established:
                association.release()
    return answers


def echo(peer: Peer, *, calling: str = "SCANNER") -> bool:
    """Say whether the peer answers a C-ECHO."""
    ae = AE(ae_title=calling)
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = 5
    ae.add_requested_context("1.2.840.10008.1.1")
    association = ae.associate(
        peer.host,
        peer.port,
        ae_title=peer.ae_title,
        evt_handlers=[(evt.EVT_CONN_OPEN, prepare_requestor)],
    )
    if not association.is_established:
        return False
    status = association.send_c_echo()
    association.release()
    return bool(status) and status.Status == 0


def explain(status: int) -> str:
    """Say what a C-STORE status means."""
    meaning = _MEANINGS.get(status) or _MEANINGS.get(status >> 8)
    return f"{meaning or code_to_category(status).lower()} (status {status:04X})"


def _parcel(file: Path) -> _Parcel | Answer:
    try:
        header = dcmread(file, specific_tags=["StudyInstanceUID"], stop_before_pixels=True)
    except (OSError, InvalidDicomError):
        return Answer(file, "", None, "not sent: this is no DICOM file (PS3.10)")
    meta = header.file_meta
    needed = ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID")
    missing = [keyword for keyword in needed if not meta.get(keyword)]
    if missing:
        return Answer(file, "", None, f"not sent: its file meta lacks {', '.join(missing)}")
    return _Parcel(
        file,
        UID(meta.MediaStorageSOPClassUID),
        str(meta.MediaStorageSOPInstanceUID),
        UID(meta.TransferSyntaxUID),
        str(header.get("StudyInstanceUID", "")),
    )


def _batches(parcels: Sequence[_Parcel]) -> Iterator[list[_Parcel]]:
    """Group by study, in order of first appearance, and by what one association can propose."""
    studies: dict[str, list[_Parcel]] = {}
    for parcel in parcels:
        studies.setdefault(parcel.study, []).append(parcel)
    for study in studies.values():
        batch: list[_Parcel] = []
        contexts: set[tuple[UID, UID]] = set()
        for parcel in study:
            context = (parcel.sop_class, parcel.transfer_syntax)
            if context not in contexts and len(contexts) == _CONTEXTS:
                yield batch
                batch, contexts = [], set()
            contexts.add(context)
            batch.append(parcel)
        yield batch


def _associate(batch: Sequence[_Parcel], peer: Peer, calling: str) -> Association:
    ae = AE(ae_title=calling)
    ae.connection_timeout = 10
    ae.maximum_pdu_size = 0
    # One context for each pair: were several syntaxes in one, the peer would choose only one.
    for sop_class, syntax in dict.fromkeys((one.sop_class, one.transfer_syntax) for one in batch):
        ae.add_requested_context(sop_class, syntax)
    association = ae.associate(
        peer.host,
        peer.port,
        ae_title=peer.ae_title,
        evt_handlers=[(evt.EVT_CONN_OPEN, prepare_requestor)],
    )
    if association.is_established:
        return association
    answer = association.acceptor.primitive
    if association.is_rejected and answer is not None:
        raise Unavailable(
            f"{peer} rejects the association of {calling}: {answer.result_str.lower()}, "
            f"{answer.reason_str.lower()}"
        )
    if answer is not None:
        kinds = sorted({one.sop_class.name for one in batch})
        raise Unavailable(f"{peer} accepts nothing of what was proposed: {', '.join(kinds)}")
    raise Unavailable(f"{peer} cannot be reached; is it running, and is the port right?")


def _store(association: Association, parcel: _Parcel) -> Answer:
    if not association.is_established:
        return Answer(parcel.file, parcel.sop_instance, None, "not sent: the association is lost")
    accepted = {(c.abstract_syntax, c.transfer_syntax[0]) for c in association.accepted_contexts}
    if (parcel.sop_class, parcel.transfer_syntax) not in accepted:
        what = f"{parcel.sop_class.name} in {parcel.transfer_syntax.name}"
        return Answer(
            parcel.file, parcel.sop_instance, None, f"not sent: the peer does not accept {what}"
        )
    status = association.send_c_store(parcel.file)
    if "Status" not in status:
        sentence = "sent, but not answered: the association is lost"
        return Answer(parcel.file, parcel.sop_instance, None, sentence)
    return Answer(parcel.file, parcel.sop_instance, int(status.Status), explain(int(status.Status)))
