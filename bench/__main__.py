"""``python -m bench [NAME …]`` runs the measurements, all of them or those named."""

from __future__ import annotations

import sys
from importlib import import_module

MEASUREMENTS = (
    "audit",
    "case_page",
    "ingest",
    "overhead",
    "reading",
    "viewer",
    "worklist",
    "writing",
)


def main() -> None:
    """Run them, one after the other."""
    names = sys.argv[1:] or list(MEASUREMENTS)
    unknown = sorted(set(names) - set(MEASUREMENTS))
    if unknown:
        sys.exit(f"no measurement {', '.join(unknown)}; there are {', '.join(MEASUREMENTS)}")
    for name in names:
        sys.argv = [f"python -m bench.{name}"]
        import_module(f"bench.{name}").main()


if __name__ == "__main__":
    main()
