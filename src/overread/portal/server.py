"""The web server: uvicorn around the portal's application."""

from __future__ import annotations

import threading

import uvicorn

from overread.portal.app import build
from overread.site import SiteFolder


def serve(site: SiteFolder, stop: threading.Event | None = None) -> None:
    """Serve the portal until it is told to stop.

    Binds to the site's ``portal.host`` and ``portal.port``: loopback unless the site says
    otherwise. Ends TLS itself when certificate and key are given.

    Parameters
    ----------
    site : SiteFolder
        The site.
    stop : threading.Event, optional
        Set by the caller to stop. Without it the server stops on SIGINT or SIGTERM.

    Raises
    ------
    OSError
        The port is taken.
    """
    portal = site.settings.portal
    config = uvicorn.Config(
        build(site),
        host=portal.host,
        port=portal.port,
        ssl_certfile=portal.certificate and str(site.settings.root / portal.certificate),
        ssl_keyfile=str(site.settings.root / portal.key) if portal.key else None,
        proxy_headers=bool(portal.proxy),
        forwarded_allow_ips=portal.proxy or None,
        server_header=False,
        date_header=True,
        access_log=False,  # a request line may hold an accession number
        log_level="warning",
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    if stop is not None:
        threading.Thread(target=_stop_when, args=(server, stop), daemon=True).start()
    server.run()


def _stop_when(server: uvicorn.Server, stop: threading.Event) -> None:
    stop.wait()
    server.should_exit = True
