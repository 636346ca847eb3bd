"""The site folder: everything a site is, in text; read, checked, frozen."""
