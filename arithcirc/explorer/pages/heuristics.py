"""Page Heuristics."""

from typing import Any

from arithcirc.explorer import kit
from arithcirc.explorer.context import Context, Page
from arithcirc.explorer.source import Source
from arithcirc.explorer.view import View


def layout(context: Context, view: View, source: Source) -> Any:
    """The page."""
    return kit.panel("Heuristics", kit.small(f"{source.title} {view.op}"))


PAGE = Page("heuristics", "Heuristics", "", layout, sweep=False)
