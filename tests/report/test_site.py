"""The static export: opens from disk without a request, its packed maps are the stored ones."""

import base64
import json
import re
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from explorer.synthetic_explorer import make_explorer_run
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from influence.planted_scores import planted_study
from report.pages import HOSTILE, words

from arithcirc.cli.main import run as run_command
from arithcirc.errors import RequestError
from arithcirc.explorer.source import open_source
from arithcirc.explorer.view import View
from arithcirc.neuron_maps import Cases, StoredMaps
from arithcirc.report import site_neuron, site_pack
from arithcirc.report.site import MARK, Site, plan_site, write_site
from arithcirc.report.site_documents import Documents
from arithcirc.report.site_neurons import MAPPED
from arithcirc.report.site_size import expected_bytes
from arithcirc.store import RunFolder
from arithcirc.viz import neuron_hits
from arithcirc.viz.operator_facts import gather
from arithcirc.viz.story import limits, story

TOP = 5
SIDE = 60
TABLES = ("accuracy", "answers", "first_layers", "heuristics", "label_summary", "neurons", "probes", "prompts")
"""Enough for every page; the report's figures have tests of their own."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    made = make_explorer_run(tmp_path_factory.mktemp("runs") / "planted" / "step4000", name=HOSTILE, tables=TABLES)
    study = planted_study(made.path, documents=200, findings=False)
    chosen = plan_site(made, top=TOP).chosen[0]
    for table in ("mechanisms", "mechanism_top"):  # the neuron that has a page was the one asked about
        rows = pd.read_parquet(study / f"{table}.parquet")
        rows["query"] = rows["query"].replace("neuron:-:L3N17", f"neuron:{chosen.operator}:{chosen.neuron}")
        rows.to_parquet(study / f"{table}.parquet", index=False)
    top = pd.read_parquet(study / "top.parquet").query("method == 'ekfac_normed' and rank == 0")["document"]
    documents = pd.read_parquet(study / "documents.parquet")
    documents.loc[top.iloc[0], "text"] += f" {HOSTILE}"
    documents.to_parquet(study / "documents.parquet", index=False)
    return made


@pytest.fixture(scope="module")
def site(run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return write_site(run, tmp_path_factory.mktemp("out") / "site", plan_site(run, top=TOP), command=HOSTILE)


def scripts(page: str) -> dict[str, str]:
    """Packed parts of a page by id."""
    found = re.findall(r'<script type="application/octet-stream" id="([\w-]+)"[^>]*>(.*?)</script>', page, re.DOTALL)
    return {name: text.strip() for name, text in found}


@given(
    arrays(np.float32, (7, 5), elements=st.floats(-1e4, 1e4, width=16) | st.just(float("nan"))),
)
def test_a_decoded_map_is_the_packed_one_within_a_255th_of_its_range(values: np.ndarray) -> None:
    packed = site_pack.pack_map(values)
    back = site_pack.unpack_map(packed)
    held = np.isfinite(values)
    assert (np.isfinite(back) == held).all()
    assert np.abs(back[held] - values[held]).max(initial=0.0) <= (packed.high - packed.low) / 255


def test_figures_come_back_without_what_the_page_has_anyway() -> None:
    line = np.linspace(-3, 7, 400, dtype=np.float64)
    figure = go.Figure([
        go.Scatter(x=np.arange(400, dtype=np.int16), y=line),
        go.Scatter(x=np.arange(400, dtype=np.int16), y=line),
        go.Heatmap(z=np.ones((50, 50), dtype=np.float32), meta="k", customdata=np.ones((50, 50), dtype=np.int16)),
        go.Heatmap(z=np.ones((50, 50), dtype=np.int8), hoverinfo="skip"),
        go.Heatmap(z=np.ones((3, 4), dtype=np.float32), meta="k"),
    ])  # fmt: skip
    text, blob = site_pack.pack_figures({"one": figure})
    stored = json.loads(zlib.decompress(base64.b64decode(text)))
    first, second, large, shade, small = stored["figures"]["one"]["data"]
    assert first["x"] == second["x"]
    assert first["y"] == second["y"]
    assert "z" not in large
    assert "customdata" not in large
    assert shade["meta"] == "illegal"
    assert "z" not in shade
    assert small["z"]["shape"].replace(" ", "") == "3,4"
    data, sizes = zlib.decompress(base64.b64decode(blob)), {"i2": 2, "f4": 4}
    at, held = 0, []
    for kind, n in stored["arrays"]:
        width = sizes[kind]
        shuffled = np.frombuffer(data[at : at + n * width], dtype=np.uint8).reshape(width, n)
        held.append(np.frombuffer(shuffled.T.tobytes(), dtype=f"<{kind}"))
        at += n * width
    assert at == len(data)
    assert np.array_equal(held[first["x"]["$"]], np.arange(400))
    assert np.allclose(held[first["y"]["$"]], line, rtol=2**-12, atol=1e-6)


def test_pages_hold_the_stored_maps_and_the_exact_hits(run: RunFolder, site: Site) -> None:
    pages = sorted((site.path / "neurons").glob("*.html"))
    assert len(pages) == TOP
    assert site.pages == TOP + 5
    table = run.table("heuristics")
    for chosen in plan_site(run, top=TOP).chosen:
        text = (site.path / "neurons" / chosen.file).read_text(encoding="utf-8")
        parts = scripts(text)
        stored = StoredMaps.find(run.path, chosen.operator, (0, SIDE - 1))
        assert stored is not None
        held = stored.read(chosen.neuron)
        assert held is not None
        attributes = re.search(
            r'id="k" data-rows="(\d+)" data-columns="(\d+)" data-low="(\S+)" data-high="(\S+)"', text
        )
        assert attributes is not None
        low, high = float(attributes[3]), float(attributes[4])
        back = site_pack.unpack_map(site_pack.Packed(parts["k"], low, high, SIDE, SIDE))
        assert np.nanmax(np.abs(back - held.k)) <= (high - low) / 255
        assert np.array_equal(site_pack.inflated(parts["value"], "<f4"), held.value)
        mine = table[
            (table["operator"] == chosen.operator)
            & (table["layer"] == chosen.neuron.layer)
            & (table["neuron"] == chosen.neuron.index)
        ]
        mine = mine.assign(fit=(mine["score"] - mine["base_rate"]) / (1 - mine["base_rate"])).sort_values(
            ["significant", "matched", "fit", "heuristic"], ascending=[False, False, False, True], kind="stable"
        )
        for key, label in enumerate(mine.head(MAPPED).itertuples(index=False)):
            found = neuron_hits.hits(held, label.heuristic, label.kind, label.end)
            assert found is not None
            codes = np.bincount(site_pack.inflated(parts[f"hits-{key}"], np.uint8), minlength=5)
            assert (codes[2], codes[3], codes[4]) == (found.hit, found.miss, found.false_alarm)


def shown_documents(text: str) -> list[str]:
    """Names of the documents in a part of a page, in order."""
    return re.findall(r'<div class="about">.*?<code>(.*?)</code>', text)


def test_documents_stand_with_their_queries_and_with_the_neuron_they_built(run: RunFolder, site: Site) -> None:
    study = run.path / "influence"
    names = pd.read_parquet(study / "documents.parquet").set_index("document")["id"]
    text = (site.path / "documents.html").read_text(encoding="utf-8")
    bodies = re.findall(r"<tbody.*?</tbody>", text, re.DOTALL)
    queries, mechanisms = (pd.read_parquet(study / f"{t}.parquet")["query"] for t in ("queries", "mechanisms"))
    assert len(bodies) == len(queries) + len(mechanisms)
    tops = pd.concat(pd.read_parquet(study / f"{t}.parquet") for t in ("top", "mechanism_top"))
    tops = tops[tops["method"] == "ekfac_normed"].sort_values("rank")
    expected = {
        name: [names[d] for end, most in (("top", 10), ("bottom", 5)) for d in by[by["end"] == end]["document"][:most]]
        for name, by in tops.groupby("query")
    }
    for name, body in zip([*queries, *mechanisms], bodies, strict=True):
        assert shown_documents(body) == expected[name]
    assert 'class="hit-need"' in text
    holding = [p for p in (site.path / "neurons").glob("*.html") if 'id="built"' in p.read_text(encoding="utf-8")]
    chosen = plan_site(run, top=TOP).chosen[0]
    assert [p.name for p in holding] == [chosen.file]
    built = holding[0].read_text(encoding="utf-8").partition('id="built"')[2]
    assert shown_documents(built) == expected[f"neuron:{chosen.operator}:{chosen.neuron}"]
    assert 'class="hit-rule"' in built
    assert f'href="neurons/{chosen.file}"' in bodies[len(queries)]


def test_a_study_without_scores_is_left_out_with_its_command(tmp_path: Path) -> None:
    run = make_explorer_run(tmp_path / "bare" / "step1", with_maps=False, tables=("accuracy",))
    study = planted_study(run.path, documents=60, findings=False)
    for table in ("top", "mechanism_top"):
        (study / f"{table}.parquet").unlink()
    plan = plan_site(run, top=0)
    assert plan.documents.study is None
    assert [note for note in plan.notes if "not scored: make it with 'arithcirc influence score" in note]
    (study / "top.parquet").write_bytes(b"PAR1 cut short")
    assert "top.parquet of the influence study is damaged: make it again with 'arithcirc influence score" in "".join(
        plan_site(run, top=0).notes
    )
    made = write_site(run, tmp_path / "site", plan)
    assert not (made.path / "documents.html").exists()


def test_the_strongest_neurons_are_listed_though_untested_and_without_a_map(run: RunFolder, tmp_path: Path) -> None:
    copy = make_explorer_run(tmp_path / "planted" / "step1", tables=("accuracy", "neurons", "heuristics"))
    table = pd.read_parquet(copy.path / "neurons.parquet")
    mine = table[(table["operator"] == "+") & (table["method"] == "exact") & (table["metric"] == "logit_diff")]
    first = int(mine[mine["important"]]["layer"].min())
    at = [mine[(mine["layer"] == layer) & ~mine["important"]].index[0] for layer in (first - 1, first)]
    table.loc[at, "effect"] = [9.0, -8.0]
    table.to_parquet(copy.path / "neurons.parquet", index=False)
    plan = plan_site(copy, top=12)
    early, late, *rest = (c for c in plan.strongest if c.operator == "+")
    assert [early.effect, late.effect] == [9.0, -8.0]
    assert f"layer {first - 1} comes before layer {first}" in early.untested
    assert "strongest of layer" in late.untested
    assert not early.mapped
    assert not late.mapped
    assert all(c.mapped and not c.untested for c in rest)
    assert len(plan.strongest) == 12
    assert plan.chosen == [c for c in plan.strongest if c.mapped]
    assert "2 of the 12 strongest neurons are listed without a page" in "".join(plan.notes)
    site = write_site(copy, tmp_path / "site", plan)
    text = (site.path / "neurons.html").read_text(encoding="utf-8")
    assert f">{early.name}*</span>" in text
    assert early.file not in text
    assert "not tested" in text
    assert len(list((site.path / "neurons").iterdir())) == 10


def test_a_knockout_that_moves_nothing_is_said_in_words(run: RunFolder) -> None:
    entry = plan_site(run, top=TOP).chosen[0]
    stored = StoredMaps.find(run.path, entry.operator, (0, SIDE - 1))
    held = stored.read(entry.neuron) if stored is not None else None
    assert held is not None
    assert held.cases is not None
    assert np.array_equal(held.cases.after == held.cases.answer, held.cases.lead - held.cases.fall > 0)
    still = Cases(*([held.cases.answer[:3]] * 4), np.full(3, 1e-4), np.full(3, 9.0), np.full(3, 5e-3))
    shown = site_neuron.page(entry, replace(held, cases=still), [], None, level=0.01)
    assert "drops" not in [f["key"] for f in shown["figures"]]
    assert shown["broken"]["rows"] == []
    assert "changes none of 3 right answers" in shown["broken"]["said"]
    moves = replace(still, fall=np.array([0.0, 0.4, 0.2]))
    shown = site_neuron.page(entry, replace(held, cases=moves), [], None, level=0.01)
    assert "drops" in [f["key"] for f in shown["figures"]]
    assert [row["fall"] for row in shown["broken"]["rows"]] == [0.4, 0.2]
    assert "falls by 0.200 nats on average, at most by 0.400 nats" in shown["broken"]["said"]


def test_it_is_small_and_says_who_made_it(run: RunFolder, site: Site) -> None:
    assert site.size < 9_500_000  # plotly.js is 4.8 MB of it
    assert site.size == sum(f.stat().st_size for f in site.path.rglob("*") if f.is_file())
    assert sum(f.name == "plotly.min.js" for f in site.path.rglob("*")) == 1
    for page in site.path.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert "Content-Security-Policy" in text
        assert "default-src &#39;none&#39;" in text
        assert HOSTILE not in text
        assert "Configuration sha256" in text
        assert str(run.path) not in text
        assert not re.search(r'(?:src|href)="(?:https?:)?//', text)


def test_the_size_announced_is_about_what_is_written(run: RunFolder, site: Site) -> None:
    plan = plan_site(run, top=TOP)
    plotly, page = ((site.path / name).stat().st_size for name in ("assets/plotly.min.js", "documents.html"))
    without = expected_bytes(run, plan.chosen, plan.maps, Documents())
    for expected, written in ((plan.expected_bytes, site.size), (without, site.size - page)):
        assert expected == pytest.approx(written, rel=0.25)
        assert expected - plotly == pytest.approx(written - plotly, rel=0.25)  # plotly.js is most of so small a site
    assert plan_site(run, top=0).expected_bytes < plan.expected_bytes - 15_000 * TOP


def test_a_folder_that_is_not_ours_is_left_alone_and_an_old_export_is_replaced(tmp_path: Path) -> None:
    run = make_explorer_run(tmp_path / "runs" / "small" / "step1", with_maps=False, tables=("accuracy",))
    tmp_path /= "out"
    plan = plan_site(run, top=0)
    mine = tmp_path / "mine"
    mine.mkdir(parents=True)
    (mine / "thesis.tex").write_text("years of work", encoding="utf-8")
    with pytest.raises(RequestError, match=r"something else than an export .* give another --out"):
        write_site(run, mine, plan)
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
    assert (mine / "thesis.tex").is_file()
    out = tmp_path / "site"
    write_site(run, out, plan)
    (out / "stale.html").write_text("from before", encoding="utf-8")

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_site(run, out, plan, progress=stop)
    assert (out / "stale.html").is_file()  # the old one stands until the new one is whole
    write_site(run, out, plan)
    assert not (out / "stale.html").exists()
    assert (out / MARK).is_file()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "site"]
    with pytest.raises(RequestError, match="is a file"):
        write_site(run, mine / "thesis.tex", plan)


def test_a_run_without_maps_says_how_to_get_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = make_explorer_run(tmp_path / "bare" / "step1", with_maps=False, tables=("accuracy", "neurons"))
    monkeypatch.chdir(tmp_path)
    assert run_command(["export", str(bare.path), "--out", "site"]) == 0
    said = capsys.readouterr()
    assert "no activation maps are stored: make them with 'arithcirc maps" in said.err
    assert "4 pages" in said.out
    assert not (tmp_path / "site" / "neurons").exists()
    assert "arithcirc maps" in (tmp_path / "site" / "neurons.html").read_text(encoding="utf-8")
    monkeypatch.setattr("arithcirc.report.site._assets", _interrupted)
    assert run_command(["export", str(bare.path), "--out", "site"]) == 1
    assert "the earlier export in site is untouched, nothing half-written is left" in capsys.readouterr().err
    assert run_command(["export", str(bare.path), "--out", "other"]) == 1
    assert "nothing was written to other" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.part"))
    assert run_command(["export", str(bare.path), "--out", "site", "--top", "-1"]) == 2
    assert "--top -1 is not possible" in capsys.readouterr().err
    assert run_command(["export", str(bare.path), "--out", "figures", "--formats", "html"]) == 0
    assert (tmp_path / "figures" / "neuron_effects.html").is_file()


def _interrupted(_: Path) -> None:
    raise KeyboardInterrupt


def test_the_overview_says_what_the_explorer_says(run: RunFolder, site: Site) -> None:
    """The same sentences from the same tables, whoever reads them."""
    text = words((site.path / "index.html").read_text(encoding="utf-8"))
    source = open_source("run", run.path)
    for operator, facts in gather(source).items():
        steps = story(View("overview", "run", op=operator), source, facts)
        assert len(steps) > 1
        for step in steps:
            assert " ".join(f"{step.claim} {step.text}".split()) in text
        for limit in limits(source, facts):
            assert " ".join(f"{limit.what}: {limit.text}".split()) in text


def test_it_opens_from_disk_without_a_network(browser: Any, run: RunFolder, site: Site) -> None:
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 800}, color_scheme="dark")
    page, wrong = context.new_page(), []
    page.on("console", lambda m: wrong.append(m.text) if m.type in {"error", "warning"} else None)
    page.on("pageerror", lambda e: wrong.append(str(e)))
    own = (site.path.as_uri(), "data:", "blob:")
    page.on("request", lambda r: None if r.url.startswith(own) else wrong.append(r.url))
    page.goto((site.path / "index.html").as_uri())
    until(page, "document.querySelectorAll('.js-plotly-plot').length == 2")  # probes and families
    assert page.evaluate("document.documentElement.scrollHeight") < 2600
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    page.get_by_role("radio", name="× multiplication").check(force=True)
    until(page, "location.hash === '#multiplication'")
    assert page.locator("h2:visible").first.text_content() == "How it does multiplication"
    page.locator("[data-toggle-theme]").click()  # dark was the system's choice
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    page.get_by_role("link", name="Report", exact=True).click()
    until(page, "document.querySelectorAll('.js-plotly-plot').length > 1")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    page.get_by_role("link", name="Prompts", exact=True).click()
    _check_prompts(page)
    page.get_by_role("link", name="Documents", exact=True).click()
    page.locator("#queries tr.line:visible").first.click()
    assert page.locator("#queries .docs:visible li").count() == 15
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    page.get_by_role("link", name="Neurons", exact=True).click()
    page.locator("#neurons tbody tr").first.wait_for()
    page.get_by_text("effect, nats").click()
    effects = [
        float(t.replace("−", "-")) for t in page.locator("#neurons tbody tr td:nth-child(3)").all_text_contents()
    ]
    assert effects == sorted(effects, reverse=True)
    assert len(effects) == TOP
    best = page.locator("#neurons tbody tr td:nth-child(5)").first.text_content().strip()
    page.keyboard.press("/")
    page.keyboard.type(best)
    assert 0 < page.locator("#neurons tbody tr:visible").count() <= TOP
    page.locator("#neurons tbody tr:visible a").first.click()
    until(page, "document.querySelectorAll('.js-plotly-plot').length >= 5 && window.arithcircMap.hits")
    _check_map(page, run)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    page.goto((site.path / "neurons" / plan_site(run, top=TOP).chosen[0].file).as_uri())
    page.keyboard.press("ArrowRight")
    page.wait_for_url(f"**/{plan_site(run, top=TOP).chosen[1].file}")
    assert page.evaluate("window.stolen") is None
    assert wrong == []
    context.close()


def _check_prompts(page: Any) -> None:
    """Fifty lines at a time; filters and the search narrow them; a line opens to its heuristics."""
    lines = page.locator("#prompts tr.line:visible")
    lines.first.wait_for()
    total = page.locator("#prompts tr.line").count()
    assert lines.count() == 50 < total
    first = lines.first.text_content()
    page.get_by_role("button", name="next").click()
    assert lines.first.text_content() != first
    page.get_by_role("radio", name="wrong").check(force=True)
    assert lines.count() == min(50, page.locator("#prompts tr.line .miss").count()) > 0
    page.get_by_role("radio", name="− subtraction").check(force=True)
    assert all("−" in text for text in page.locator("#prompts tr.line:visible code").all_text_contents())
    page.get_by_role("radio", name="all").nth(1).check(force=True)
    page.locator("input[type=search]").fill("226-68=")
    assert lines.count() <= 1
    page.locator("input[type=search]").fill("")
    assert page.locator("#prompts tr.more:visible").count() == 0
    lines.first.click()
    assert page.locator("#prompts tr.more:visible").count() == 1
    page.locator("input[type=search]").fill("no such heuristic")
    assert "nothing fits" in page.locator("[data-count]").text_content()


def until(page: Any, condition: str) -> None:
    """Wait; the policy forbids the eval that playwright's own waiting uses."""
    for _ in range(4800):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(25)
    raise AssertionError(f"never came: {condition}")


def _check_map(page: Any, run: RunFolder) -> None:
    """What the browser decoded is the stored map: K, KV, answers."""
    file = page.url.rsplit("/", 1)[1]
    chosen = next(c for c in plan_site(run, top=TOP).chosen if c.file == file)
    stored = StoredMaps.find(run.path, chosen.operator, (0, SIDE - 1))
    held = stored.read(chosen.neuron) if stored is not None else None
    assert held is not None
    got = page.evaluate(
        "['k', 'kv', 'answer'].map((n) => arithcircMap[n].map("
        "(row) => Array.from(row, (v) => Number.isNaN(v) ? null : v)))"
    )
    k, kv, answer = (np.array(part, dtype=np.float64) for part in got)
    step = (np.nanmax(held.k) - np.nanmin(held.k)) / 255
    assert np.array_equal(answer, held.answer)
    assert np.nanmax(np.abs(k - held.k)) <= step
    assert np.nanmax(np.abs(kv - held.kv)) <= step * np.abs(held.value).max() + 1e-6
    assert np.array_equal(np.isnan(kv), np.isnan(held.kv))
