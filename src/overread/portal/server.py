"""The web server: uvicorn around the portal's application."""

from __future__ import annotations

import gc
import socket
import threading

import uvicorn

from overread.dicom.encoded import keep_values_out_of_logs
from overread.errors import UsageError
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
    UsageError
        It cannot listen there: the port is taken, say.
    """
    keep_values_out_of_logs()
    portal = site.settings.portal
    listener = _listen(portal.host, portal.port)
    app = build(site)
    config = uvicorn.Config(
        app,
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
    settle()
    app.state.is_ending = lambda: server.should_exit  # streams of events end with it
    if stop is not None:
        threading.Thread(target=_stop_when, args=(server, stop), daemon=True).start()
    with listener:
        server.run(sockets=[listener])


def settle() -> None:
    """Let the collector leave alone what is loaded by now: it stays, and is large.

    Else it looks through all of it every few hundred requests, and one of them waits 0.2 s.
    """
    gc.collect()
    gc.freeze()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        raise UsageError(
            f"the portal cannot listen on {host}:{port}: {error.strerror}; stop what listens there "
            "or set another portal.port in overread.yaml"
        ) from error


def _stop_when(server: uvicorn.Server, stop: threading.Event) -> None:
    stop.wait()
    server.should_exit = True
