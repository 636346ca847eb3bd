"""Site folders to begin with: ``plain``, the least that a site is, and three that work.

``bts`` finds brain tumours on MR, ``lts`` measures the lobes of a donor's liver on CT, ``hfd``
finds hips on radiographs and says what ails them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

NAMES = ("bts", "lts", "hfd")
"""Examples that ``overread init --example`` offers; without one it is ``plain``."""

_IGNORED = "# what the site keeps, and what it must not tell\ndata/\nsecrets/\n"


def copy(name: str, folder: Path) -> None:
    """Copy an example into a folder, which is made if it is not there.

    Raises
    ------
    FileExistsError
        The folder is there and not empty.
    KeyError
        There is no such example.
    """
    if name not in ("plain", *NAMES):
        raise KeyError(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(folder)
    shutil.copytree(Path(__file__).parent / name, folder, dirs_exist_ok=True)
    (folder / ".gitignore").write_text(_IGNORED)
