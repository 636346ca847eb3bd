"""The language: DICOM's own words, as this house speaks them. Nothing here opens a connection."""
