"""A simulated hospital: a scanner, a PACS and phantom patients, to try the whole with."""
