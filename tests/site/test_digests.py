from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from overread.site.digests import digests


def test_text_is_digested_and_weights_are_not(tmp_path: Path) -> None:
    for name in (
        "overread.yaml", "environments/test.yaml", "forms/tumour.json", "operators/own.py",
        "models/tumour/1.0.0/model.yaml", "models/tumour/1.0.0/weights.onnx",
        "data/overread.sqlite",
        "notes.txt",
    ):  # fmt: skip
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    found = digests(tmp_path)
    assert sorted(found) == [
        "environments/test.yaml", "forms/tumour.json", "models/tumour/1.0.0/model.yaml",
        "operators/own.py", "overread.yaml",
    ]  # fmt: skip
    assert found["overread.yaml"] == sha256(b"overread.yaml").hexdigest()
