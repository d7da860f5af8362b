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
from urllib.parse import urlsplit

from dash.exceptions import CallbackException
from flask import Flask, Response, request
from waitress.server import create_server

from arithcirc.errors import EnvironmentFailure, RequestError
from arithcirc.explorer.app import make_app
from arithcirc.explorer.context import Context
from arithcirc.explorer.live import Opener

LOCAL = ("127.0.0.1", "localhost", "::1", "[::1]")
CALLBACKS = "/_dash-update-component"
STRANGE = "this is not a question that a page of the explorer asks: reload the page"
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
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise EnvironmentFailure(f"no address for --host {host!r} ({error.strerror}): give 127.0.0.1") from None
    missing = [str(folder) for folder in folders if not Path(folder).is_dir()]
    if missing:
        raise RequestError(f"there is no folder {missing[0]}: give a run's, a sweep's, or one that holds some")
    context = make_app(folders, live=live)
    if not context.library.paths():
        named = ", ".join(map(str, folders))
        raise RequestError(f"{named} holds no run and no sweep: make one with 'arithcirc analyze', or give its folder")
    secured(context, host)
    return create_server(context.dash.server, sockets=[_bound(host, port)], threads=THREADS, ident=None)


def _bound(host: str, port: int) -> socket.socket:
    """A socket of this address. Raises EnvironmentFailure when it cannot be had."""
    family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    held = socket.socket(family, kind, protocol)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(place)
    except (OSError, OverflowError) as error:
        held.close()
        reason = getattr(error, "strerror", None) or error
        raise EnvironmentFailure(
            f"cannot listen on {host} port {port} ({reason}): give another --port (0: any free one)"
        ) from None
    return held


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
            return _plain("this explorer answers to its own address only", 403)
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != request.host:
            return _plain("this explorer answers to its own pages only", 403)
        if request.path == CALLBACKS and request.method == "POST" and not _asked_well(context):
            return _plain(STRANGE, 400)
        return None

    def dress(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = policy
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    def failed(error: Exception) -> Response:
        if type(error) is CallbackException:  # the body's outputs are not those of its callback
            return _plain(STRANGE, 400)
        code = getattr(error, "code", 500)
        if code >= 500:
            flask.logger.error("request failed", exc_info=error)
        text = getattr(error, "description", None) if code < 500 else "unexpected failure; the explorer's log says more"
        return _plain(str(text), code)

    flask.before_request(check)
    flask.after_request(dress)
    flask.register_error_handler(Exception, failed)
    return flask


def _plain(text: str, code: int) -> Response:
    """One line for whoever asked."""
    return Response(f"{text}\n", code, mimetype="text/plain")


def _asked_well(context: Context) -> bool:
    """The request's body asks a callback that exists, with a value for each of its inputs and states."""
    try:
        body = request.get_json(silent=True)
    except RecursionError:
        return False
    if not isinstance(body, dict) or not isinstance(body.get("output"), str):
        return False
    changed = body.get("changedPropIds", [])
    if not isinstance(changed, list) or not all(isinstance(name, str) for name in changed):
        return False
    known = context.dash.callback_map.get(body["output"])
    return known is not None and all(
        _fit(body.get(part) or [], known[held]) for part, held in (("inputs", "inputs"), ("state", "state"))
    )


def _fit(given: Any, known: Sequence[Any]) -> bool:
    """The values are those of these components, in order; a pattern of components has a list of them."""
    if not isinstance(given, list) or len(given) != len(known):
        return False
    for one, wanted in zip(given, known, strict=True):
        parts = one if isinstance(one, list) else [one]
        if not all(isinstance(p, dict) and p.get("property") == wanted["property"] and "id" in p for p in parts):
            return False
        plain = not str(wanted["id"]).startswith("{")
        if plain and (isinstance(one, list) or one["id"] != wanted["id"]):
            return False
        if not plain and not all(isinstance(p["id"], dict) for p in parts):
            return False
    return True
