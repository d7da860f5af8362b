"""Asking an explorer what its pages ask, without a browser: the router and every callback, by posted JSON."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient

from arithcirc.explorer.app import PAGES, make_app
from arithcirc.explorer.context import Context
from arithcirc.explorer.server import CALLBACKS, secured
from arithcirc.explorer.view import View

TRACES = ("Traceback", 'File "', "site-packages")
"""What no reader may ever see."""
UNEXPECTED = "please report it"
"""What only answers to forged bodies may hold."""


@dataclass(frozen=True)
class Answer:
    """What the explorer sent back."""

    status: int
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text) if self.text else {}

    @property
    def page(self) -> str:
        """The page that the router drew, as JSON text."""
        return json.dumps(self.json["response"]["page"]["children"], ensure_ascii=False)

    @property
    def view(self) -> dict[str, str]:
        return self.json["response"]["view"]["data"]

    def calm(self, *, forged: bool = False) -> "Answer":
        """Fails when a trace, or for what a person can do an unexpected failure, is told."""
        assert self.status < 500, self.text[:500]
        told = TRACES if forged else (*TRACES, UNEXPECTED)
        assert not [word for word in told if word in self.text], self.text[:2000]
        return self


@dataclass(frozen=True)
class Asker:
    """A client of one explorer."""

    context: Context
    client: FlaskClient

    def go(self, address: str) -> Answer:
        """What the router sends for an address."""
        path, _, query = address.partition("?")
        return self.route(path, f"?{query}" if query else "")

    def route(self, path: Any, query: Any) -> Answer:
        known = self.callback("..page.children")
        return self.post(fill(known, {"url.pathname": path, "url.search": query}))

    def callback(self, begins: str) -> dict[str, Any]:
        """The callback whose output begins so."""
        return next(c for c in self.callbacks() if c["output"].startswith(begins))

    def callbacks(self) -> Iterator[dict[str, Any]]:
        """Every callback that is run here, not in the browser, and names its components."""
        for output, held in self.context.dash.callback_map.items():
            if "callback" in held:
                yield {"output": output, "inputs": held["inputs"], "state": held["state"]}

    def post(self, body: Any, **options: Any) -> Answer:
        answer = self.client.post(CALLBACKS, json=body, **options)
        return Answer(answer.status_code, answer.get_data(as_text=True))


def asker(folders: Sequence[Path], live: Any = None) -> Asker:
    """A client of a new explorer over these folders."""
    context = make_app(folders, live=(lambda *_: live) if live is not None and not callable(live) else live)
    return Asker(context, secured(context, "127.0.0.1").test_client())


def fill(known: dict[str, Any], values: dict[str, Any], other: Any = None) -> dict[str, Any]:
    """A body that asks a callback, with values by `component.property` and `other` for the rest."""

    def held(part: dict[str, Any]) -> Any:
        name = f"{part['id']}.{part['property']}"
        if part["id"].startswith("{"):
            return [{"id": {"index": 0}, "property": part["property"], "value": values.get(name, other)}]
        return {"id": part["id"], "property": part["property"], "value": values.get(name, other)}

    body = {name: [held(part) for part in known[name]] for name in ("inputs", "state")}
    names = [p for p in known["inputs"] if not p["id"].startswith("{")]
    return {
        "output": known["output"], "outputs": _outputs(known["output"]), **body,
        "changedPropIds": [f"{p['id']}.{p['property']}" for p in names[:1]],
    }  # fmt: skip


def _outputs(text: str) -> Any:
    """`..a.x...b.y..` as the browser writes it."""
    many = text.startswith("..")
    names = text.strip(".").split("...") if many else [text]
    made = [{"id": name.rsplit(".", 1)[0], "property": name.rsplit(".", 1)[1].split("@")[0]} for name in names]
    return made if many else made[0]


def settled(source_key: str, page: str, op: str = "+", **choices: str) -> dict[str, str]:
    """What the browser holds of a view."""
    return View(page, source_key, "", "", op, choices).data()


def pages() -> list[str]:
    """Names of all pages."""
    return list(PAGES)
