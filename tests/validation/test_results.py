from __future__ import annotations

import json

from overread.validation.results import Measurement, Measurements


def test_measurements_survive_json() -> None:
    made = Measurements((Measurement("Tumour", "volume", 12.25, "mL", "counted"),))
    assert Measurements.from_json(json.loads(json.dumps(made.to_json()))) == made
    assert made.to_json()["measurements"][0]["region"] == "Tumour"
