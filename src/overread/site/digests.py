"""What a site folder's text is, file by file, in digests: to say that it was changed, and where."""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256
from pathlib import Path

from overread.store import audit
from overread.store.database import Database

_TEXT = (
    "overread.yaml",
    "routes.yaml",
    "environments/*.yaml",
    "pipelines/*.yaml",
    "projects/*.yaml",
    "forms/*.json",
    "operators/*.py",
    "models/*/*/model.yaml",
    "tables/*",
)


def digests(root: Path) -> dict[str, str]:
    """Return the SHA-256 of each text file of a site folder, by its name relative to the folder.

    Weights are not among them: cards name theirs by digest.
    """
    files = (file for pattern in _TEXT for file in root.glob(pattern) if file.is_file())
    return {
        file.relative_to(root).as_posix(): sha256(file.read_bytes()).hexdigest()
        for file in sorted(files)
    }


def note_site(database: Database, root: Path, at: datetime, *, by: str = "overread") -> bool:
    """Tell the audit which files differ from those that a process last loaded; say whether any do.

    Parameters
    ----------
    by : str
        Who loads the site.
    """
    files = digests(root)
    with database.read() as session:
        if audit.known_files(session) == files:
            return False
    with database.write() as session:
        return audit.note_files(session, at, files, by=by)
