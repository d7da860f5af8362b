"""What a person does, in a real browser: find, open, knock out; type a prompt, switch off; move the slider; share."""

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest
from explorer.planted_live import DECOY, PlantedLive, carriers
from explorer.synthetic_explorer import lone_prompt, make_explorer_run

pytestmark = pytest.mark.browser
NAMES = ("overview", "neurons", "neuron", "prompt", "heuristics", "heads", "documents", "sweep", "compare")
LOOKS = [(wide, scheme) for wide in (1280, 1920) for scheme in ("light", "dark")]
HEURISTIC = "op2 = 8 mod 10"
PATIENCE = 120_000
HOSTILE = '<img src=x onerror="window.owned=1"><script>window.owned=1</script>{{7*7}}'
WORDS = """() => {
  const plots = [...document.querySelectorAll('#page .js-plotly-plot')];
  plots.forEach((plot) => { plot.style.visibility = 'hidden'; });
  const text = document.querySelector('#page').innerText;
  plots.forEach((plot) => { plot.style.visibility = ''; });
  return text;
}"""
"""The page's text without that of its figures, whose ticks depend on the moment."""
TYPED = ("28-8=", "31-9=", "40-7=")
TYPE = """([text, enter]) => {
  const field = document.querySelector('#prompt-prompt');
  field.focus();
  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(field, text);
  field.dispatchEvent(new InputEvent('input', { bubbles: true }));
  if (enter) field.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', bubbles: true }));
}"""
"""Text typed into the prompt's field, and Enter, with no moment in between."""
RUN = "run=planted%2Fstep4000&op=-"


class Reader:
    """One person's browser window; what it must never see is collected in `bad`."""

    def __init__(self, browser: Any, home: str, *, wide: int = 1280, scheme: str = "light") -> None:
        size = {"width": wide, "height": 800 if wide == 1280 else 1080}
        self.context = browser.new_context(viewport=size, color_scheme=scheme)
        self.home, self.bad = home, []
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.page.on("console", lambda m: self.bad.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda e: self.bad.append(str(e)))
        self.page.on("dialog", lambda d: self.bad.append(f"dialog {d.message}"))
        self.page.on("request", self._asked)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((f"{self.home}/", "data:", "blob:")):
            self.bad.append(f"request {request.url}")

    def go(self, address: str) -> Any:
        self.page.goto(self.home + address, timeout=PATIENCE)
        self.page.wait_for_selector("#page > *")
        return self.page

    def shows(self, selector: str, text: str) -> None:
        """Wait until the element has the text."""
        self.page.wait_for_function(
            "([s, t]) => [...document.querySelectorAll(s)].some((e) => e.innerText.includes(t))", arg=[selector, text]
        )

    def settled(self) -> str:
        """The page's text once it stays as it is."""
        before = None
        for _ in range(300):
            text = re.sub(r"Press SPACE.*\n?", "", self.page.evaluate(WORDS))
            if text == before and "loading" not in text.lower() and "asking" not in text:
                return text
            before = text
            self.page.wait_for_timeout(400)
        raise AssertionError(f"the page does not settle: {before[:300]}")

    def query(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.page.url).query).items()}

    def calm(self) -> None:
        assert not self.bad
        assert self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert "This page failed" not in self.page.inner_text("#page")


@pytest.fixture
def reader(browser: Any) -> Iterator[Callable[..., Reader]]:
    made = []

    def open_window(home: str, **look: Any) -> Reader:
        made.append(Reader(browser, home, **look))
        return made[-1]

    yield open_window
    for window in made:
        window.context.close()


def prompt_of(name: str = HEURISTIC) -> str:
    return lone_prompt("-", name)


def test_find_a_neuron_by_heuristic_open_it_knock_it_out_and_see_the_answer_change(reader, served):
    window = reader(served)
    page = window.go(f"/neurons?{RUN}")
    page.wait_for_selector("#neurons-grid .ag-center-cols-container .ag-row")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "neurons-q"
    page.keyboard.type(HEURISTIC)
    page.keyboard.press("Enter")
    wanted = {str(n) for n, name in carriers("-").items() if name == HEURISTIC}
    window.shows("#neurons-count", str(len(wanted)))
    page.locator("#neurons-grid .ag-center-cols-container .ag-row").first.locator("[col-id=effect]").click()
    page.wait_for_url("**/neuron?**")
    page.wait_for_selector("#neuron-plot .main-svg")
    at = window.query()
    assert f"L{at['layer']}N{at['neuron']}" in wanted
    window.shows("#page", HEURISTIC)
    page.click(".neuron-knock")
    window.shows(".neuron-knocked", "live")
    page.locator(".neuron-knocked a", has_text=f"→ {DECOY}").first.click()
    page.wait_for_url("**/prompt?**")
    window.shows("#prompt-said", str(DECOY))
    assert window.query()["off"] == f"L{at['layer']}N{at['neuron']}"
    window.calm()


@pytest.mark.slow  # typing, and a prompt without a neuron, are in the tests beside it
def test_type_a_prompt_and_disable_a_heuristic(reader, served):
    window, prompt = reader(served), prompt_of()
    page = window.go(f"/prompt?{RUN}")
    window.settled()
    page.fill("#prompt-prompt", prompt)
    page.keyboard.press("Enter")
    window.shows("#page h3", f"Why the model answers {PlantedLive().answer(prompt).answer} to")
    assert page.locator(".said-answer", has_text="✓").count() == 1
    window.settled()
    page.fill("#prompt-off", f"h:{HEURISTIC}")
    page.keyboard.press("Enter")
    window.shows(".said-answer", f"{DECOY}")
    page.wait_for_function("() => new URLSearchParams(location.search).get('off') !== null")
    assert window.query()["off"] == f"h:{HEURISTIC}"
    window.calm()


def test_what_is_typed_stays_while_the_model_arrives_and_while_a_page_is_drawn(reader, explorer, explorer_run):
    """With Enter in the very task of the last letter, as a busy browser has them; and Enter still asks."""
    live, there = PlantedLive(), threading.Event()
    window, (first, second, third) = reader(explorer(explorer_run.path, live=lambda *_: there.wait() and live)), TYPED
    page = window.go("/prompt?op=-")
    window.shows(".prompt-bench", "The model is loading")
    page.evaluate(TYPE, [first, False])
    there.set()
    page.wait_for_selector("#prompt-said .said-answer")
    assert (page.input_value("#prompt-prompt"), page.evaluate("document.activeElement.id")) == (first, "prompt-prompt")
    page.keyboard.press("Enter")
    window.shows("#page h3", f"to {first[:-1]}".replace("-", " − "))
    held = []
    page.route("**/_dash-update-component", lambda route: held.append(route) if drawing(route) else route.continue_())
    page.evaluate(TYPE, [second, True])
    page.wait_for_function("() => document.querySelector('#prompt-root.asking')")
    page.evaluate(TYPE, [third, True])
    page.unroute("**/_dash-update-component")
    for route in held:
        route.continue_()
    window.shows("#page h3", f"to {third[:-1]}".replace("-", " − "))
    assert page.input_value("#prompt-prompt") == window.query()["prompt"] == third
    window.calm()


def drawing(route: Any) -> bool:
    """A request for a whole page."""
    return "..page.children" in (route.request.post_data or "")


@pytest.mark.slow
def test_a_malformed_prompt_is_one_line(reader, served):
    window = reader(served)
    page = window.go(f"/prompt?{RUN}")
    page.fill("#prompt-prompt", HOSTILE[:60])
    page.keyboard.press("Enter")
    window.shows("#page", "is not understood")
    window.calm()


def test_move_the_step_slider(reader, explorer, planted_sweep):
    window = reader(explorer(planted_sweep.path))
    page = window.go("/?op=%2B")
    window.shows("#frame-step-name", "step2000")
    page.locator("#frame-step [role=slider]").focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("() => location.search.includes('revision=step1000')")
    window.shows("#frame-step-name", "step1000")
    page.click("[role=tab]:has-text('Neurons')")
    page.wait_for_url("**/neurons?**")
    assert window.query()["revision"] == "step1000"
    page.go_back()
    page.wait_for_function("() => location.pathname === '/' || location.pathname === '/overview'")
    page.go_back()
    window.shows("#frame-step-name", "step2000")
    window.calm()


@pytest.mark.slow  # the page of documents shows the same on a lighter page
@pytest.mark.parametrize("page", ["heuristics", "prompt"])
def test_an_address_restores_what_was_seen(page, reader, served):
    one = reader(served)
    if page == "heuristics":
        seen = one.go(f"/heuristics?{RUN}")
        seen.wait_for_selector("#heuristics-ablation")
        seen.locator("#heuristics-ablation label").nth(1).click()
        seen.locator("#heuristics-grid .ag-center-cols-container .ag-row").nth(1).locator("[role=gridcell]").nth(
            1
        ).click()
        seen.wait_for_function("() => /label=/.test(location.search) && /ablation=/.test(location.search)")
    else:
        seen = one.go(f"/prompt?{RUN}&prompt={prompt_of().replace('=', '%3D')}")
        seen.wait_for_selector("#prompt-off")
        seen.locator("#prompt-ablation label").nth(1).click()
        seen.wait_for_function("() => /ablation=mean/.test(location.search)")
    text = one.settled()
    two = reader(served)
    two.go(one.page.url.removeprefix(served))
    assert two.settled() == text
    one.calm()
    two.calm()


def look(window: Reader, name: str) -> None:
    window.go(f"/{name}?{RUN}&layer=3&neuron={min(n.index for n in carriers('-') if n.layer == 3)}&prompt=28-8%3D")
    window.settled()
    window.calm()


@pytest.mark.slow
@pytest.mark.parametrize(("wide", "scheme"), LOOKS)
@pytest.mark.parametrize("name", NAMES)
def test_every_page_is_calm_in_every_light(name, wide, scheme, reader, served):
    look(reader(served, wide=wide, scheme=scheme), name)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_page_is_calm_at_every_checkpoint(name, reader, explorer, planted_sweep):
    window = reader(explorer(planted_sweep.path))
    for revision in ("step0", "step64", "step1000", "step2000"):
        for op in ("%2B", "-"):
            window.go(f"/{name}?model=toy-arith&revision={revision}&op={op}")
            window.settled()
            window.calm()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose name, labels and every other text are markup."""
    folder = tmp_path_factory.mktemp("runs") / '<img src=x onerror="window.owned=1">'
    run = make_explorer_run(folder, name=HOSTILE)
    kept = {
        "operator",
        "method",
        "metric",
        "kind",
        "set",
        "change",
        "position",
        "circuit",
        "ranking",
        "ablation",
        "arm",
    }
    kept |= {"where", "end", "prediction", "measure", "value", "heads", "key"}
    for file in folder.glob("*.parquet"):
        table = pd.read_parquet(file)
        for column in table.select_dtypes(["object", "string"]).columns.difference(list(kept)):
            table[column] = HOSTILE + table[column].astype(str)
        table.to_parquet(file)
    return run.path


@pytest.mark.slow
def test_hostile_text_stays_text_and_every_page_is_calm(reader, explorer, hostile):
    window = reader(explorer(hostile.parent, live=PlantedLive(HOSTILE)))
    for name in NAMES:
        window.go(f"/{name}?op=-&layer=3&neuron=0&label=%3Cimg%20src%3Dx%3E&q=%3Cimg%20src%3Dx%3E&prompt=28-8%3D")
        window.settled()
        assert window.page.evaluate("window.owned") is None
        assert window.page.locator("img[src=x]").count() == 0
        window.calm()


@pytest.mark.slow
def test_the_shipped_model_for_real(reader, explorer, tmp_path_factory):
    """Analyse a few operands of the shipped model, then find, open, knock out, ask."""
    from arithcirc.cli.explore import open_model
    from arithcirc.cli.main import run

    folder = tmp_path_factory.mktemp("runs") / "shipped"
    assert run(["analyze", "--operands", "0..60", "--operators=-", "--out", str(folder)]) == 0
    window = reader(explorer(folder, live=open_model))
    page = window.go("/prompt?prompt=58-31%3D&op=-")
    window.shows("#page h3", "Why the model answers 27")
    page.click("#prompt-all")
    page.wait_for_function("() => /off=/.test(location.search)")
    window.shows("#prompt-said", "control")
    page = window.go("/neurons?op=-&shown=labelled")
    page.wait_for_selector("#neurons-grid .ag-center-cols-container .ag-row")
    page.locator("#neurons-grid .ag-center-cols-container .ag-row").first.locator("[col-id=effect]").click()
    page.wait_for_selector("#neuron-plot .main-svg")
    page.click(".neuron-knock")
    window.shows(".neuron-knocked", "live")
    window.calm()
