"""A page as PDF, printed by a browser that is already here: chromium without a window and without a network.

The page prints itself in its light colours with every figure drawn at the width of the paper (its script listens for
`beforeprint`), so the browser is only asked to open the file and print it. Nothing is downloaded: a machine without a
browser gets one line that says what to install.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from arithcirc.errors import EnvironmentFailure
from arithcirc.store import write_atomic

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
SECONDS = 180
_OPTIONS = (
    "--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--window-size=1036,1500", "--no-pdf-header-footer",
)  # fmt: skip


def browser() -> str:
    """Path of a chromium or chrome: BROWSER_PATH, as kaleido reads it, or on PATH. Raises EnvironmentFailure."""
    named = os.environ.get("BROWSER_PATH")
    for name in (named, *BROWSERS):
        if name and (found := shutil.which(name)):
            return found
    raise EnvironmentFailure(
        "a PDF is printed by chromium, which is not here: install Debian's chromium (apt-get install chromium) or "
        "name a browser in BROWSER_PATH, or write --format html"
    )


def print_pdf(page: Path, pdf: Path) -> Path:
    """Print an HTML file to `pdf`, atomically; returns it. Raises EnvironmentFailure when the browser cannot."""
    program = browser()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        made = Path(folder) / "page.pdf"
        root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []  # it refuses root otherwise
        command = [program, *_OPTIONS, *root, f"--user-data-dir={folder}/profile", f"--print-to-pdf={made}"]
        try:
            done = subprocess.run(  # noqa: S603  a browser on PATH, our own page
                [*command, page.resolve().as_uri()], capture_output=True, text=True, timeout=SECONDS, check=False
            )
            said = done.stderr.strip().splitlines()
            reason = said[-1] if said else f"exit code {done.returncode}"
        except subprocess.TimeoutExpired:
            reason = f"not done after {SECONDS} s"
        except OSError as error:
            reason = str(error)
        if not made.is_file() or not made.stat().st_size:
            raise EnvironmentFailure(f"{program} could not print the page ({reason}): write --format html")
        write_atomic(pdf, lambda part: shutil.copyfile(made, part))
    return pdf
