"""The site folder: everything a site is, in text, read once and frozen."""

from overread.site.folder import SiteFolder, load, load_routes, load_settings

__all__ = ["SiteFolder", "load", "load_routes", "load_settings"]
