"""Pictures of the explorer's pages for README: `python tests/bench/explorer_pictures.py`.

Serves the runs of `runs` (those of the shipped model, of its sweep and of `make influence`) with the live model, opens
every page at 1280x800 in Debian's chromium and writes `figures/explorer_<page>.png`. `--dark`, `--wide` and `--pages`
help to look at the rest; these are written to `--out`.
"""

import argparse
import threading
import time
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Page, sync_playwright

from arithcirc.cli.explore import open_model
from arithcirc.explorer.server import address, listening

CHROMIUM = "/usr/bin/chromium"
ARGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
RUN = quote("neox-arith/step4000", safe="")
STUDIED = quote("neox-corpus/step1500", safe="")
PAGES = {
    "overview": f"/?run={RUN}&op=-",
    "neurons": f"/neurons?run={RUN}&op=-&q=result%20%3D%202%20mod%204",
    "neuron": f"/neuron?run={RUN}&op=-&layer=3&neuron=341",
    "prompt": f"/prompt?run={RUN}&op=-&prompt=226-68%3D",
    "heuristics": f"/heuristics?run={RUN}&op=-",
    "documents": f"/documents?run={STUDIED}&op=-&query=two_step-00",
    "heads": f"/heads?run={RUN}&op=-&layer=2&head=1",
    "sweep": "/sweep?run=sweep&op=-",
    "compare": f"/compare?run={RUN}&op=-&with={RUN}&with_op=%2B",
}
SETTLE = 1.5
"""Seconds after the last request for figures to be drawn."""


def settle(page: Page, seconds: float = SETTLE) -> None:
    """Wait until the page has asked for nothing for a while."""
    page.wait_for_selector("#page > *", timeout=120_000)
    last = [time.monotonic()]

    def asked(request: object) -> None:
        last[0] = time.monotonic()

    page.on("request", asked)
    page.on("requestfinished", asked)
    start = time.monotonic()
    while time.monotonic() - last[0] < seconds and time.monotonic() - start < 60:
        page.wait_for_timeout(100)


def take(url: str, out: Path, names: list[str], *, dark: bool, wide: bool, full: bool) -> None:
    """One picture per page; what the console says goes to the terminal."""
    out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        size = {"width": 1920, "height": 1080} if wide else {"width": 1280, "height": 800}
        context = browser.new_context(viewport=size, color_scheme="dark" if dark else "light")
        for name in names:
            page = context.new_page()
            page.on("console", lambda m, name=name: print(name, m.type, m.text) if m.type == "error" else None)
            page.goto(url + PAGES[name], timeout=120_000)
            settle(page)
            if name == "prompt":
                page.wait_for_selector(
                    "#prompt-said .said-answer", timeout=120_000
                )  # the model loads in the background
                settle(page)
            page.screenshot(path=str(out / f"explorer_{name}.png"), full_page=full)
            wider = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            print(f"{name}: {(out / f'explorer_{name}.png').stat().st_size // 1024} KiB, {max(wider, 0)} px too wide")
            page.close()
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=Path("figures"))
    parser.add_argument("--pages", nargs="*", default=list(PAGES), choices=list(PAGES))
    for name in ("dark", "wide", "full"):
        parser.add_argument(f"--{name}", action="store_true")
    asked = parser.parse_args()
    server = listening([asked.runs], live=open_model)
    threading.Thread(target=server.run, daemon=True).start()
    url = address("127.0.0.1", int(server.effective_port)).rstrip("/")
    take(url, asked.out, asked.pages, dark=asked.dark, wide=asked.wide, full=asked.full)


if __name__ == "__main__":
    main()
