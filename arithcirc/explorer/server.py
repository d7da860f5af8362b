"""Serving the explorer: a production WSGI server on one address, headers that keep every request at home.

The pages load their own scripts and styles only (a content-security policy forbids the rest), there is no debug mode,
and what goes wrong inside is logged on the server, never shown as a trace. Requests naming another host than the
one served are refused, so a web page elsewhere cannot reach the explorer through a name of its own (DNS rebinding).
"""

import logging
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flask import Flask, Response, request
from waitress.server import create_server

from arithcirc.errors import EnvironmentFailure, RequestError
from arithcirc.explorer.app import make_app
from arithcirc.explorer.context import Context
from arithcirc.explorer.live import Opener

LOCAL = ("127.0.0.1", "localhost", "::1", "[::1]")
THREADS = 8
BIGGEST = 1_000_000
"""Bytes of a request's body that are read; the pages send a few kilobytes."""


def serve(
    folders: Sequence[Path],
    *,
    host: str = "127.0.0.1",
    port: int = 8050,
    live: Opener | None = None,
    opened: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve the explorer until interrupted; `opened` is called with its address once it listens.

    Port 0 takes a free one. Raises RequestError when a folder has no run, EnvironmentFailure when the port is taken.
    """
    server = listening(folders, host=host, port=port, live=live)
    opened(address(host, int(server.effective_port)))
    try:
        server.run()
    finally:
        server.close()


def listening(folders: Sequence[Path], *, host: str = "127.0.0.1", port: int = 0, live: Opener | None = None) -> Any:
    """A server that holds its port and waits to be run. Raises what `serve` does."""
    missing = [str(folder) for folder in folders if not Path(folder).is_dir()]
    if missing:
        raise RequestError(f"there is no folder {missing[0]}: give a run's, a sweep's, or one that holds some")
    context = make_app(folders, live=live)
    if not context.library.paths():
        named = ", ".join(map(str, folders))
        raise RequestError(f"{named} holds no run and no sweep: make one with 'arithcirc analyze', or give its folder")
    secured(context, host)
    try:
        return create_server(context.dash.server, host=host, port=port, threads=THREADS, ident=None)
    except (OSError, socket.gaierror) as error:
        raise EnvironmentFailure(
            f"cannot listen on {host} port {port} ({error.strerror or error}): give another --port (0: any free one)"
        ) from None


def address(host: str, port: int) -> str:
    """What a browser opens."""
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def secured(context: Context, host: str) -> Flask:
    """The application with its headers, limits and the check of the host's name. Call once, after all callbacks."""
    flask: Flask = context.dash.server
    flask.config["MAX_CONTENT_LENGTH"] = BIGGEST
    logging.getLogger("waitress").setLevel(logging.ERROR)
    scripts = " ".join(f"'{h}'" if not h.startswith("'") else h for h in context.dash.csp_hashes())
    policy = (
        f"default-src 'none'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; "
        "font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )

    def check() -> Response | None:
        name = request.host.rsplit(":", 1)[0]
        if host in LOCAL and name not in LOCAL:
            return Response("this explorer answers to its own address only\n", 403, mimetype="text/plain")
        return None

    def dress(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = policy
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    def failed(error: Exception) -> Response:
        code = getattr(error, "code", 500)
        if code >= 500:
            flask.logger.error("request failed", exc_info=error)
        text = getattr(error, "description", None) if code < 500 else "unexpected failure; the explorer's log says more"
        return Response(f"{text}\n", code, mimetype="text/plain")

    flask.before_request(check)
    flask.after_request(dress)
    flask.register_error_handler(Exception, failed)
    return flask
