"""The check of ``identity``: which plugins are used, and what is wrong with their settings."""

from __future__ import annotations

from pathlib import Path

from overread import registry
from overread.errors import Fault
from overread.identity import Nobody
from overread.pipelines.check import near
from overread.settings import Settings
from overread.site.yamlfile import Document


def check_identity(main: Document, settings: Settings, root: Path) -> list[Fault]:
    """Let each identity plugin that is used say what is wrong with its own settings.

    Parameters
    ----------
    main : Document
        ``overread.yaml``, with its overlay.
    root : Path
        The site folder.
    """
    faults: list[Fault] = []
    known, identity = registry.names("identity"), settings.identity
    for index, name in enumerate(identity.use):
        if name not in known:
            what, expected = f"there is no identity plugin {name!r}", near(name, known, "plugin")
            faults.append(main.fault(("identity", "use", index), what, expected))
            continue
        try:
            registry.load("identity", name)(Nobody(), identity.with_.get(name, {}), root)
        except ValueError as error:
            path = ("identity", "with", name)  # what is wrong is said without the values
            faults.append(main.fault(path, str(error), f"the settings of {name}"))
    for name in sorted(set(identity.with_) - set(identity.use)):
        what = f"there are settings of {name}, which identity.use does not name"
        expected = near(name, identity.use, "plugin")
        faults.append(main.fault(("identity", "with", name), what, expected))
    return faults
