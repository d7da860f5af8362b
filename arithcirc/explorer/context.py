"""What pages are built with: the Dash application, the library of runs, the live models; and what a page is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dash import Dash

from arithcirc.explorer.library import Library
from arithcirc.explorer.live import Live
from arithcirc.explorer.source import Source
from arithcirc.explorer.view import View


@dataclass(frozen=True)
class Context:
    """The parts every page shares. Nothing in it belongs to a user."""

    dash: Dash
    library: Library
    live: Live

    def source(self, data: Any) -> Source:
        """The source of the view a browser holds (component `view`). Raises RequestError, RunConflictError."""
        return self.library.open(View.of(data))


def nothing(context: Context) -> None:
    """Register no callback."""


def as_asked(view: View, _source: Source) -> View:
    """The view as it is."""
    return view


@dataclass(frozen=True)
class Page:
    """One page: `layout` draws it whole from its address, `register` adds its callbacks once.

    `at` is the view that the page shows, where it follows more than the address' own operator.

    `hint` says in a sentence what the page answers. Pages with `sweep` True need a sweep and say so for a run.
    """

    name: str
    title: str
    hint: str
    layout: Callable[[Context, View, Source], Any]
    register: Callable[[Context], None] = nothing
    at: Callable[[View, Source], View] = as_asked
    sweep: bool = False
    hidden: bool = False
