"""Pieces of a Markdown page: text that cannot become markup, tables, lists, and figures as files beside it.

Text from tables is escaped, so a prompt with a bar, a bracket or a tag stays text. Figures are PNG files in `figures/`,
drawn by kaleido where the extra `figures` is installed; without it the page says that they were left out, and why.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from arithcirc.catalogue import SweepFolder
from arithcirc.errors import EnvironmentFailure, RequestError
from arithcirc.store import RunFolder
from arithcirc.viz.export import write_figures

FIGURES = "figures"
MARKDOWN = "report.md"


def escape(text: object) -> str:
    """Text as text: nothing in it is markup, and it stays on one line."""
    one_line = " ".join(str(text).split())
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", one_line)


def code(text: object) -> str:
    """Text in a fixed-width face, whatever it holds."""
    bare = " ".join(str(text).split()).replace("|", "\\|")
    longest = max((len(run) for run in re.findall(r"`+", bare)), default=0)
    ticks = "`" * (longest + 1)
    space = " " if longest else ""
    return f"{ticks}{space}{bare}{space}{ticks}"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> str:
    """A table of cells that are already escaped; all but the first `left` columns are set to the right."""
    marks = [":--" if i < left else "--:" for i in range(len(columns))]
    lines = [columns, marks, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def listing(items: Iterable[str]) -> str:
    """A list of lines that are already escaped."""
    return "\n".join(f"- {item}" for item in items)


def block(text: str) -> str:
    """A command, in a block of its own."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall(r"`+", text)), 3)
    return f"{fence}\n{text}\n{fence}"


def pictures(folder: RunFolder | SweepFolder, names: Sequence[str]) -> tuple[dict[str, list[str]], str | None]:
    """Write these figures as PNG into the folder's `figures/`; the ones the folder has no tables for are passed over.

    Returns the images' lines by name, and why there are none where they could not be drawn.
    """
    try:
        written = write_figures(folder, folder.path / FIGURES, ["png"], only=names, skip_missing=True)
    except (EnvironmentFailure, RequestError) as error:
        return {}, str(error)
    found: dict[str, list[str]] = {}
    for path in written:
        name = next(n for n in names if path.stem == n or path.stem.startswith(f"{n}_"))
        found.setdefault(name, []).append(image(path))
    return found, None


def image(path: Path) -> str:
    """A figure's line, relative to the page."""
    words = path.stem.replace("_", " ")
    return f"![{escape(words)}]({FIGURES}/{path.name})"
