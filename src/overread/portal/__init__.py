"""The web: pages, API, DICOMweb, viewer, sign-in."""
