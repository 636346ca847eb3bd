"""A scanner, a PACS and phantoms to try the whole with."""
