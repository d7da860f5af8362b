"""How fast the explorer is for the one who looks: `python tests/bench/explorer.py` (`make bench-explorer`).

Starts `arithcirc explore` on a folder of runs (the shipped model's run, and its sweep where there is one) in a process
of its own, opens it in Debian's chromium at 1280x800 and takes medians of a few repeats:

    start-up            the process starts .. the first byte of the first page
    first paint         an address is opened .. the overview and its first figure stand (a warm server, a new window)
    click to heat map   a row of the grid is clicked .. the neuron's maps are drawn
    heat map, server    the server's share of it: the router's answer for a neuron, and its size
    slider step         an arrow key on the slider .. the page of that checkpoint stands
    toggle              a heuristic is switched off in page Prompt .. the new answer is shown
    memory              resident memory of the server after these pages, and with the live model after a question

Wall clock: other work on the machine counts. Numbers go to the terminal and to `--out`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
from playwright.sync_api import Page, sync_playwright
from rich.console import Console
from rich.table import Table

CHROMIUM = "/usr/bin/chromium"
ARGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
RUN = quote("neox-arith/step4000", safe="")
ROW = "#neurons-grid .ag-center-cols-container .ag-row"
PATIENCE = 180_000
PROMPT = "226-68="


def start(folder: Path, *, live: bool) -> tuple[subprocess.Popen[str], str, float]:
    """A server in its own process, its address, and the seconds until its first byte."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "arithcirc", "explore", str(folder), "--port", "0", "--no-browser"]
    command += [] if live else ["--no-live"]
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2")}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    line = process.stdout.readline() if process.stdout else ""
    url = line.split("explorer: ")[1].split()[0].rstrip("/")
    with urllib.request.urlopen(url) as answer:  # noqa: S310  (http, this machine)
        answer.read(1)
    return process, url, time.perf_counter() - began


def seconds(act: Callable[[], object], repeats: int) -> float:
    """The median over repeats."""
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        act()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def drawn(page: Page, selector: str = "#page .js-plotly-plot .main-svg") -> None:
    page.wait_for_selector(selector, timeout=PATIENCE)


def painted(browser: Any, url: str, repeats: int) -> float:
    def once() -> None:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(f"{url}/?run={RUN}&op=-", timeout=PATIENCE)
        drawn(page)
        page.close()

    return seconds(once, repeats)


def clicked(page: Page, url: str, repeats: int) -> float:
    """From the click on a row to the drawn maps; each time another row."""
    taken = []
    for i in range(repeats):
        page.goto(f"{url}/neurons?run={RUN}&op=-&shown=labelled", timeout=PATIENCE)
        page.wait_for_selector(ROW, timeout=PATIENCE)
        page.wait_for_timeout(1000)
        began = time.perf_counter()
        page.locator(f"{ROW}[row-index='{i}'] [col-id=effect]").click()
        drawn(page, "#neuron-plot .main-svg")
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def routed(url: str, address: str, repeats: int) -> tuple[float, int]:
    """Seconds and bytes of the router's answer for an address."""
    path, _, query = address.partition("?")
    known = json.loads(urllib.request.urlopen(f"{url}/_dash-dependencies").read())  # noqa: S310
    output = next(c["output"] for c in known if c["output"].startswith("..page.children"))
    names = [part.rsplit(".", 1) for part in output.strip(".").split("...")]
    body = {
        "output": output, "outputs": [{"id": i, "property": p} for i, p in names], "state": [],
        "inputs": [
            {"id": "url", "property": "pathname", "value": path},
            {"id": "url", "property": "search", "value": f"?{query}"},
        ],
        "changedPropIds": ["url.search"],
    }  # fmt: skip
    asked = urllib.request.Request(  # noqa: S310
        f"{url}/_dash-update-component", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    size = len(urllib.request.urlopen(asked).read())  # noqa: S310
    return seconds(lambda: urllib.request.urlopen(asked).read(), repeats), size  # noqa: S310


def stepped(page: Page, url: str, repeats: int) -> float:
    page.goto(f"{url}/?run=sweep&op=-", timeout=PATIENCE)
    drawn(page)
    page.wait_for_timeout(1500)
    thumb = page.locator("#frame-step [role=slider]")
    taken = []
    for _ in range(repeats):
        page.evaluate("document.querySelector('#page').firstElementChild.dataset.old = '1'")
        thumb.focus()
        began = time.perf_counter()
        page.keyboard.press("ArrowLeft")
        page.wait_for_function("() => !document.querySelector('#page [data-old]')", timeout=PATIENCE)
        drawn(page)
        taken.append(time.perf_counter() - began)
        page.wait_for_timeout(500)
    return statistics.median(taken)


def toggled(page: Page, url: str, repeats: int) -> float:
    """One heuristic after the other is switched off; from the key to the new answer."""
    page.goto(f"{url}/prompt?run={RUN}&op=-&prompt={quote(PROMPT)}", timeout=PATIENCE)
    page.wait_for_selector("#prompt-said .said-answer", timeout=PATIENCE)
    page.wait_for_timeout(3000)
    names = ["result = 0 mod 2", "op2 in 0..100", "op1 in 200..300", "result = 2 mod 4", "result = 2 mod 3"]
    taken = []
    for name in names[:repeats]:
        before = page.inner_text("#prompt-said")
        page.fill("#prompt-off", f"h:{name}")
        began = time.perf_counter()
        page.keyboard.press("Enter")
        page.wait_for_function(
            "(t) => { const e = document.querySelector('#prompt-said'); return e && e.innerText !== t }",
            arg=before, timeout=PATIENCE,
        )  # fmt: skip
        taken.append(time.perf_counter() - began)
        page.wait_for_timeout(700)
    return statistics.median(taken)


def resident(process: subprocess.Popen[str]) -> float:
    return psutil.Process(process.pid).memory_info().rss / 2**20


def measure(folder: Path, repeats: int) -> dict[str, float]:
    """All numbers: seconds, bytes or MiB as their names say."""
    found: dict[str, float] = {}
    process, url, found["start-up, s"] = start(folder, live=False)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        try:
            found["first paint, s"] = painted(browser, url, repeats)
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            found["click to heat map, s"] = clicked(page, url, repeats)
            at = page.url.removeprefix(url)
            found["heat map, server, s"], size = routed(url, at, repeats)
            found["heat map, KiB sent"] = size / 1024
            if (folder / "sweep").is_dir():
                found["slider step, s"] = stepped(page, url, repeats)
            found["memory without a model, MiB"] = resident(process)
            process.terminate()
            process, url, _ = start(folder, live=True)
            found["toggle in Prompt, s"] = toggled(page, url, repeats)
            found["memory with the live model, MiB"] = resident(process)
        finally:
            process.terminate()
            browser.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="a folder with neox-arith/step4000")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=None, help="a JSON file for the numbers")
    asked = parser.parse_args()
    found = measure(asked.runs, asked.repeats)
    table = Table("measured", "median", title=f"explorer, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for name, value in found.items():
        table.add_row(name, f"{value:.2f}" if value < 10 else f"{value:.0f}")
    Console().print(table)
    if asked.out is not None:
        asked.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
