"""DICOMweb (PS3.18): QIDO-RS, WADO-RS and STOW-RS over what is kept, for those who may see it."""
