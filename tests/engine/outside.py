"""Steps that run a program outside, each in a child of its own box."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from overread.dicom.volume import Mask, Volume
from overread.engine import alone, worker
from overread.engine.alone import Ran
from overread.operators import files
from overread.site import load
from tests.dicom.series import affine, ball

CODE = {"value": "49755003", "scheme": "SCT", "meaning": "Morphologically Abnormal Structure"}
SPOT = {"number": 1, "label": "Spot", "category": CODE, "type": CODE}

VOLUME = Volume(np.where(ball((4, 6, 8)), 500, 0).astype(np.int16), affine())
"""What most of the programs are given."""


class Outside:
    """A site, and steps that are run one after the other."""

    def __init__(self, root: Path, **settings: Any) -> None:
        site = root / "site"
        site.mkdir()
        said = {"site": {"name": "Test"}, "engine": {"memory": "1GB", "disk": "50MB"}, **settings}
        (site / "overread.yaml").write_text(json.dumps(said))
        (site / "secret").write_text("patients")
        self.site = load(site, {})
        self.box = replace(worker.box(self.site), work=root / "box")
        self.box.work.mkdir()
        self._number = 0
        self.run, self.close = alone.in_a_box(self.box, lambda *_: None, self.site.settings)

    def step(
        self, operator: str, inputs: Mapping[str, object] | None = None, **settings: Any
    ) -> Ran:
        """Run one step; a timeout is 20 s unless the test says otherwise."""
        self._number += 1
        out = self.box.work / str(self._number)
        seconds = settings.pop("seconds", 20.0)
        given = {"volume": VOLUME} if inputs is None else inputs

        def run(request: dict[str, Any]) -> dict[str, Any]:
            return self.run({**request, "timeout": seconds})

        ran = alone.run_operator(self.site, operator, given, settings, out, run, lambda _: None)
        assert not list(self.box.work.parent.glob("*.outside"))
        return ran

    def log(self, ran: Ran) -> str:
        """What the step printed."""
        return (self.box.work / str(self._number) / f"{ran.operator}.log").read_text()

    def made(self, ran: Ran) -> Any:
        """What the step made."""
        assert ran.state == "done", ran.reason
        assert ran.folder is not None
        return files.load(ran.folder)


def is_mask(made: object) -> Mask:
    """The same, known as a mask."""
    assert isinstance(made, Mask)
    return made
