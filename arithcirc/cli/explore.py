"""`explore` as a command: saved runs and sweeps in a browser. Heavy imports stay in the functions."""

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from arithcirc.cli import show
from arithcirc.cli.options import DEFAULT_OUT

if TYPE_CHECKING:
    from arithcirc.questions import LiveModel

HERE = "127.0.0.1"
LOCAL = (HERE, "localhost", "::1")
LARGEST_PORT = 65535


def explore(
    *folders: Path,
    host: Annotated[str, Parameter(help="Address to listen on; any but the default may be reached by others.")] = HERE,
    port: Annotated[int, Parameter(help="Port to listen on; 0: any free one.")] = 8050,
    live: Annotated[bool, Parameter(help="Load the model in the background to ask it questions.")] = True,
    browser: Annotated[bool, Parameter(help="Open a browser.")] = True,
) -> None:
    """Look at runs and sweeps in a browser: neurons, heuristics, heads, prompts, checkpoints.

    Parameters
    ----------
    folders
        Run folders, sweeps, or folders that hold some (default: runs). The newest run of the first one opens.
    """
    from arithcirc.errors import RequestError

    if not 0 <= port <= LARGEST_PORT:
        raise RequestError(f"--port {port} is no port: give 1 to {LARGEST_PORT}, or 0 for any free one")
    asked = folders or (DEFAULT_OUT,)
    for folder in asked:
        if not folder.is_dir():
            raise RequestError(
                f"there is no folder {folder}: make a run with 'arithcirc analyze', or give the folder of one"
            )
    try:
        from arithcirc.explorer.server import serve
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("arithcirc"):
            raise
        raise RequestError(
            f"the explorer needs {error.name}, which is not installed: pip install 'arithcirc[explorer]'"
        ) from None
    if host not in LOCAL:
        show.err.print(
            f"warning: listening on {host}: anyone who reaches this port can read these runs, write notes beside them "
            "and use the model; there is no password",
            markup=False,
        )

    def opened(url: str) -> None:
        show.out.print(f"explorer: {url} (Ctrl-C ends it)", markup=False)
        if browser:
            webbrowser.open(url)

    serve(asked, host=host, port=port, live=open_model if live else None, opened=opened)


def open_model(folder: Path, model: str | None, revision: str | None) -> "LiveModel":
    """Load the model of a run, or of a sweep at a checkpoint; torch is imported here, when it is first needed."""
    from arithcirc.live.open import open_checkpoint, open_live

    if model is not None and revision is not None:
        from arithcirc.catalogue import SweepFolder

        return open_checkpoint(SweepFolder.open(folder), model, revision)
    from arithcirc.store import RunFolder

    return open_live(RunFolder.open(folder))
