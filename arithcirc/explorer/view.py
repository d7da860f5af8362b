"""What an address of the explorer says: the page, the run, the checkpoint, the operator, and the page's own choices.

    /neuron?run=neox-arith%2Fstep4000&op=%2B&layer=2&neuron=209

A view is untrusted text: everything is length-limited here, and looked up (never opened) by the library. Two equal
addresses show the same, so an address can be shared.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any
from urllib.parse import parse_qsl, urlencode

from arithcirc.errors import RequestError

COMMON = ("run", "model", "revision", "op")
LONGEST = 2_000
"""Characters of an address' query that are read."""
_PLUS = re.compile(r" |\d+ \d+=?")
"""A space that was a +: links lose its escape on their way, so an operator or a prompt arrives with a space."""


@dataclass(frozen=True)
class View:
    """One address. `choices` are the parameters that only its page knows."""

    page: str = "overview"
    run: str = ""
    model: str = ""
    revision: str = ""
    op: str = ""
    choices: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, path: Any, query: Any) -> "View":
        """From the path and the query of an address. Never raises: what it does not understand is left out."""
        path, query = (part if isinstance(part, str) else "" for part in (path, query))
        text = query.lstrip("?")[:LONGEST]
        held = dict(parse_qsl(text, max_num_fields=60, errors="replace")) if text.count("&") < 60 else {}
        held = {name: value.replace(" ", "+") if _PLUS.fullmatch(value) else value for name, value in held.items()}
        common = {name: held.pop(name, "") for name in COMMON}
        step = held.pop("step", "")  # a checkpoint as people say it: step=0, step=step0
        common["revision"] = common["revision"] or step
        return cls(path[:LONGEST].strip("/").lower() or "overview", **common, choices=held)

    @classmethod
    def of(cls, data: Any) -> "View":
        """From what the browser holds (`data()`). Never raises."""
        held = {str(k): str(v)[:LONGEST] for k, v in data.items()} if isinstance(data, Mapping) else {}
        page = held.pop("page", "overview")
        common = {name: held.pop(name, "") for name in COMMON}
        return cls(page, **common, choices=held)

    def data(self) -> dict[str, str]:
        """Plain values for the browser; `of` reads them back."""
        return dict(self.choices) | {name: getattr(self, name) for name in ("page", *COMMON)}

    def part(self, kind: str) -> dict[str, str]:
        """The id of a part of the page that this address asked for: a late answer finds no other's."""
        return {"type": kind, "asked": blake2b(self.url().encode(), digest_size=8).hexdigest()}

    def url(self, page: str | None = None, **changes: Any) -> str:
        """The address of this view with another page or other parameters; None drops one.

        Another page takes over run, checkpoint and operator, not this page's own choices.
        """
        held = {name: getattr(self, name) for name in COMMON}
        if page is None or page == self.page:
            held |= self.choices
        held |= {name: "" if value is None else str(value) for name, value in changes.items()}
        query = urlencode({name: value for name, value in held.items() if value != ""})
        return f"/{page or self.page}" + (f"?{query}" if query else "")

    def choice(self, name: str, allowed: tuple[str, ...] | list[str], default: str) -> str:
        """A choice of the page, or the default where the address has none or one that does not exist."""
        given = self.choices.get(name, "")
        return given if given in allowed else default

    def whole(self, name: str, default: int | None = None) -> int | None:
        """A choice that is a whole number. Raises RequestError for another text."""
        given = self.choices.get(name, "")
        if not given:
            return default
        if not given.lstrip("-").isdecimal() or len(given) > 12:
            raise RequestError(f"{name} {given[:40]!r} in the address is not a whole number")
        return int(given)
