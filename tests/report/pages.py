"""Pages in tests: their words, text that must stay text, and a page opened in a browser without a network."""

import html
import re
from pathlib import Path
from typing import Any

HOSTILE = "</script><script>window.stolen = 1</script><img src=x onerror='window.stolen = 2'>"


def words(page: str) -> str:
    """The page's text without scripts, styles and tags."""
    bare = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", bare)))


def open_page(browser: Any, path: Path, size: tuple[int, int], scheme: str) -> tuple[Any, list[str]]:
    """A page opened from disk without a network, and a list that fills with whatever goes wrong."""
    viewport = {"width": size[0], "height": size[1]}
    context = browser.new_context(offline=True, viewport=viewport, color_scheme=scheme)
    page, wrong = context.new_page(), []
    page.on("console", lambda m: wrong.append(m.text) if m.type in {"error", "warning"} else None)
    page.on("pageerror", lambda e: wrong.append(str(e)))
    page.on(
        "request",
        lambda r: None if r.url == path.as_uri() or r.url.startswith(("data:", "blob:")) else wrong.append(r.url),
    )
    page.goto(path.as_uri())
    waiting = "document.querySelectorAll('.plot').length - document.querySelectorAll('.js-plotly-plot').length"
    for _ in range(2400):  # figures are drawn when the browser is idle; the page forbids the eval of wait_for_function
        if not page.evaluate(waiting):
            break
        page.wait_for_timeout(50)
    return page, wrong
