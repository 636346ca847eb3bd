"""``python -m overread`` is the command ``overread``."""

from overread.cli.main import main

main()
