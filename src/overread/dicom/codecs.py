"""JPEG 2000 by imagecodecs, for pydicom.

All decoders that pydicom knows of keep Python's lock while they decode, so that threads wait for
each other. This one lets go of it.
"""

from __future__ import annotations

from importlib import import_module

from pydicom.pixels.decoders.base import DecodeRunner, JPEG2000Decoder, JPEG2000LosslessDecoder
from pydicom.uid import JPEG2000, JPEG2000Lossless

NAME = "imagecodecs"
DECODER_DEPENDENCIES = {JPEG2000: (NAME,), JPEG2000Lossless: (NAME,)}
"""What pydicom says is missing where it is."""


def is_available(uid: str) -> bool:
    """Say whether a transfer syntax can be decoded here; pydicom asks."""
    return uid in DECODER_DEPENDENCIES


def decode_frame(source: bytes, runner: DecodeRunner) -> bytes:
    """Decode one frame; the bytes are of the type that its precision needs, as pydicom wants it."""
    values = import_module(NAME).jpeg2k_decode(source)
    runner.set_option("bits_allocated", values.dtype.itemsize * 8)
    if str(runner.photometric_interpretation) in ("YBR_ICT", "YBR_RCT"):
        runner.set_option("photometric_interpretation", "RGB")
    return bytes(values.tobytes())


def register() -> None:
    """Make it known to pydicom."""
    for decoder in (JPEG2000Decoder, JPEG2000LosslessDecoder):
        if NAME not in decoder.available_plugins:
            decoder.add_plugin(NAME, (__name__, "decode_frame"))
