"""Headers of kept instances, read when a condition asks for one."""

from __future__ import annotations

from collections import OrderedDict

from pydicom import Dataset, dcmread

from overread.dicom.study import Origin
from overread.store.archive import Archive
from overread.store.tables import Arrival, Association, Instance

_KEPT = 2000


class Headers:
    """Headers of kept instances up to PixelData, the latest ones held in memory."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._read: OrderedDict[str, Dataset] = OrderedDict()

    def of(self, instance: Instance) -> Dataset:
        """Return the header of an instance."""
        header = self._read.get(instance.key)
        if header is None:
            header = dcmread(self._archive.path(instance.key), stop_before_pixels=True, force=True)
            self._read[instance.key] = header
            if len(self._read) > _KEPT:
                self._read.popitem(last=False)
        return header


def origin_of(arrival: Arrival, association: Association | None) -> Origin:
    """Say which association an arrival came by; one that came over the web has none."""
    if association is None:
        return Origin(called_ae_title=arrival.ae_title)
    return Origin(association.calling_ae, association.called_ae, association.peer_address)
