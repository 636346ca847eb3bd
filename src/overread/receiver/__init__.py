"""The DICOM listener: keep, record, answer."""
