"""The page Documents and what other pages show of an influence study; hostile texts stay texts; nothing is a riddle."""

import csv
import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

import pandas as pd
import pytest
from explorer.asking import Answer, Asker, asker
from explorer.test_explorer_flows import Reader
from influence.planted_scores import HOSTILE, planted_study

from arithcirc.explorer.library import Library
from arithcirc.explorer.view import View

IMAGE = '<img src=x onerror="window.owned=1">'
RUN = "run=planted%2Fstep4000"


@pytest.fixture(scope="module")
def folder(explorer_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The planted run with an influence study; one document that ranks first is hostile."""
    made = tmp_path_factory.mktemp("documents") / "planted" / "step4000"
    shutil.copytree(explorer_run.path, made, ignore=shutil.ignore_patterns("maps_*", "gallery*", "number*"))
    study = planted_study(made, documents=200, findings=False)
    documents = pd.read_parquet(study / "documents.parquet")
    top = pd.read_parquet(study / "top.parquet")
    first = top.query("query == 'fact-1' and method == 'ekfac_normed' and end == 'top'")["document"].iloc[:2]
    documents.loc[first.iloc[0], "text"] += f" {IMAGE}{HOSTILE}"
    documents.loc[first.iloc[0], "source"] = IMAGE
    prompt, _, value = fact(made)
    documents.loc[first.iloc[1], "text"] = f"{'Nothing here. ' * 200}{prompt} {value}."
    documents.to_parquet(study / "documents.parquet", index=False)
    return made


@pytest.fixture(scope="module")
def planted(folder: Path) -> Asker:
    return asker([folder])


def fact(folder: Path) -> tuple[str, str, str]:
    """Of query fact-1: its prompt, the entity and the value it is about."""
    rows = pd.read_parquet(folder / "influence" / "queries.parquet").set_index("query")
    _, entity, _, value = rows.loc["fact-1", "needs"][0].split(":")
    return rows.loc["fact-1", "prompt"], entity, value


def page(planted: Asker, address: str) -> Answer:
    answer = planted.go(address).calm()
    assert answer.status == 200
    return answer


def texts(planted: Asker, address: str) -> str:
    """All text of a page, its pieces joined."""
    found: list[str] = []

    def walk(node: Any) -> None:
        if isinstance(node, str):
            found.append(node)
        elif isinstance(node, list):
            for part in node:
                walk(part)
        elif isinstance(node, dict):
            walk(node.get("props", {}).get("children"))

    walk(json.loads(page(planted, address).page))
    return "".join(found)


# -- the page ----------------------------------------------------------------------------------------------------------


def test_a_query_is_shown_with_its_completion_needs_and_documents(planted, folder):
    text = texts(planted, "/documents?query=fact-1")
    prompt, entity, value = fact(folder)
    assert f"{prompt} {value} ✓" in text
    assert f"river of {entity}: {value}" in text
    top = pd.read_parquet(folder / "influence" / "top.parquet")
    rows = top.query("query == 'fact-1' and method == 'ekfac_normed' and end == 'top'").sort_values("rank")
    ids = [f"d{n:05d}" for n in rows["document"].head(20)]
    places = [text.index(name) for name in ids]
    assert places == sorted(places)
    assert "show 20 more of 40" in text
    whole = texts(planted, "/documents?query=fact-1&n=40")
    assert all(f"d{n:05d}" in whole for n in rows["document"])


def test_what_is_needed_is_marked_also_deep_in_a_long_text(planted, folder):
    held = page(planted, "/documents?query=fact-1").page
    marks = [m for m in _marks(json.loads(held)) if m[0] == "hit-need"]
    assert len(marks) >= 2
    assert {text for _, text in marks} == {fact(folder)[2]}
    assert "whole text, 2," in held


def _marks(node: Any) -> Iterator[tuple[str, str]]:
    if isinstance(node, list):
        for part in node:
            yield from _marks(part)
    elif isinstance(node, dict):
        props = node.get("props", {})
        if node.get("type") == "Mark":
            yield props["className"], props["children"]
        yield from _marks(props.get("children"))


def test_methods_ends_and_mechanisms_are_in_the_address(planted, folder):
    top = pd.read_parquet(folder / "influence" / "top.parquet")
    for method, end in (("bm25", "top"), ("ekfac", "bottom"), ("random", "bottom")):
        text = texts(planted, f"/documents?query=slope-1&method={method}&end={end}&n=40")
        rows = top.query(f"query == 'slope-1' and method == '{method}' and end == '{end}'").sort_values("rank")
        places = [text.index(f"d{n:05d}") for n in rows["document"]]
        assert places == sorted(places)
        said = {"bm25": "share the most words with the query", "random": "the order has no meaning"}
        assert said.get(method, "documents that make the completion less likely") in text
        assert ("make the completion" in text) == (method == "ekfac")
    assert "the order has no meaning" in texts(planted, "/documents?query=neuron%3A-%3AL3N17&method=random")
    text = texts(planted, "/documents?query=neuron%3A-%3AL3N17")
    assert "Mechanism: − L3N17" in text
    assert "step250 (before its birth)" in text
    assert "Mechanism: + L2N5" in texts(planted, "/documents?query=neuron:+:L2N5")
    assert "Mechanism: − L3N17" in texts(planted, "/documents?what=mechanisms")
    assert ("hit-rule", "0") not in list(_marks(json.loads(page(planted, "/documents?what=mechanisms").page)))
    assert any(name == "hit-rule" for name, _ in _marks(json.loads(page(planted, "/documents?what=mechanisms").page)))


def test_an_unknown_query_or_number_is_one_line(planted):
    assert "has no query and no mechanism 'nobody'" in texts(planted, "/documents?query=nobody")
    assert "is not a whole number" in texts(planted, "/documents?n=many")
    for n in (0, -3, 10**9):
        assert "d0" in texts(planted, f"/documents?query=fact-1&n={n}")


def test_kinds_and_sources_are_counted_against_the_corpus(planted, folder):
    text = texts(planted, "/documents?query=fact-0")
    documents = pd.read_parquet(folder / "influence" / "documents.parquet")
    top = pd.read_parquet(folder / "influence" / "top.parquet")
    rows = top.query("query == 'fact-0' and method == 'ekfac_normed' and end == 'top'")
    share = (rows["kind"] == "fact").mean() / (documents["kind"] == "fact").mean()
    assert f"fact{(rows['kind'] == 'fact').sum()}{share:.1f}×" in text
    assert "Sources among the top 40" in text


def test_all_of_it_is_a_table_to_download(planted):
    answer = planted.client.get(f"/_documents.csv?{RUN}&query=fact-1&method=dot&end=bottom")
    rows = list(csv.DictReader(io.StringIO(answer.get_data(as_text=True))))
    assert len(rows) == 40
    assert [int(r["rank"]) for r in rows] == list(range(1, 41))
    assert all(r["text"] for r in rows)
    bad = planted.client.get(f"/_documents.csv?{RUN}&query=nobody")
    assert bad.status_code == 400
    assert bad.get_data(as_text=True).count("\n") == 1


# -- other pages -------------------------------------------------------------------------------------------------------


def test_the_neuron_s_page_shows_what_built_it_or_what_to_run(planted, folder, explorer_run):
    known = texts(planted, "/neuron?op=-&layer=3&neuron=17")
    assert "Documents with the largest influence on this neuron’s rule" in known
    assert "op2 = 8 mod 10: the first 4 of 40 kept" in known
    other = texts(planted, "/neuron?op=-&layer=3&neuron=1")
    assert "was not among those whose influence was computed" in other
    assert "L3N17" in other
    bare = texts(asker([explorer_run.path]), "/neuron?op=-&layer=3&neuron=17")
    assert "arithcirc influence fit planted --corpus=CORPUS" in bare


def test_a_heuristic_leads_to_the_documents_that_built_it(planted, folder, explorer_run):
    mechanisms = pd.read_parquet(folder / "influence" / "mechanisms.parquet")
    asked = mechanisms[mechanisms["what"] == "heuristic"].iloc[0]
    address = f"/heuristics?op={quote(asked['operator'], safe='')}&label={quote(asked['heuristic'], safe='')}"
    assert "training documents with the largest influence on it:all its neurons" in texts(planted, address)
    links = re.findall(r'"href": "(/documents\?[^"]*query=[^"]*)"', page(planted, address).page)
    same = mechanisms[(mechanisms["operator"] == asked["operator"]) & (mechanisms["heuristic"] == asked["heuristic"])]
    assert {parse_qs(link.partition("?")[2])["query"][0] for link in links} == set(same["query"])
    assert "Mechanism: " in texts(planted, links[0])
    assert "documents with the largest influence on it" not in texts(asker([explorer_run.path]), address)
    other = f"/heuristics?op={quote(asked['operator'], safe='')}&label=no%20such"
    assert "documents with the largest influence on it" not in texts(planted, other)


def test_a_heuristic_that_was_not_asked_about_leads_to_its_neuron_and_says_so(folder, tmp_path):
    own = tmp_path / "planted" / "step4000"
    shutil.copytree(folder, own)
    table = pd.read_parquet(own / "influence" / "mechanisms.parquet")
    table[table["what"] == "neuron"].to_parquet(own / "influence" / "mechanisms.parquet", index=False)
    row = table.iloc[0]
    address = f"/heuristics?op={quote(row['operator'], safe='')}&label={quote(row['heuristic'], safe='')}"
    text = texts(asker([own]), address)
    assert "influence on one of its neurons (the heuristic was not asked about):L" in text
    assert "influence on it:" not in text


def test_the_overview_says_that_there_is_a_study(planted):
    assert "influence of 200 documents on 44 queries and 4 mechanisms" in texts(planted, "/overview")


def test_a_run_without_a_study_says_what_to_run(explorer_run, planted_sweep):
    text = texts(asker([explorer_run.path]), "/documents")
    assert "No influence study" in text
    assert "arithcirc influence score planted --corpus=CORPUS --revision=step4000" in text
    assert "A sweep has no influence study" in texts(asker([planted_sweep.path]), "/documents")


# -- folders -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was not analysed: its folder holds nothing but the study; a corpus and a model lie beside it."""
    out = tmp_path_factory.mktemp("out")
    shutil.copytree(folder / "influence", out / "neox" / "step1000" / "influence")
    for name in ("corpus/tokenizer/tokenizer.json", "corpus/corpus.json", "models/neox/step1/config.json"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("{}")
    return out


def test_studies_corpora_and_models_are_no_runs_of_their_own(lone, folder):
    assert list(Library([lone]).paths()) == ["neox/step1000"]
    assert list(Library([folder]).paths()) == ["planted/step4000"]
    assert list(Library([folder / "influence"]).paths().values()) == [folder]


def test_every_page_is_calm_where_there_is_only_a_study(lone):
    made = asker([lone])
    assert made.context.library.open(View()).title == "neox-planted step1000"
    for name in ("overview", "neurons", "neuron", "prompt", "heuristics", "heads", "sweep", "compare"):
        assert len(page(made, f"/{name}").page) > 100
    assert "river of" in texts(made, "/documents?query=fact-1")
    assert "influence of 200 documents" in texts(made, "/overview")


def test_a_study_that_is_not_scored_yet_says_how_to_go_on(lone, tmp_path):
    own = tmp_path / "neox" / "step1000"
    shutil.copytree(lone / "neox" / "step1000", own)
    for name in ("top", "mechanism_top"):
        (own / "influence" / f"{name}.parquet").unlink()
    text = texts(asker([tmp_path]), "/documents")
    assert "No scores yet" in text
    assert "arithcirc influence score neox-planted" in text
    (own / "influence" / "manifest.json").write_text("{")
    assert "damaged" in texts(asker([own]), "/documents")


# -- in a browser ------------------------------------------------------------------------------------------------------


@pytest.mark.browser
def test_choose_a_query_switch_the_method_and_share_the_address(browser, explorer, folder):
    home = explorer(folder)
    window = Reader(browser, home)
    shown = window.go("/documents?query=fact-1")
    shown.wait_for_selector("mark.hit-need")
    assert shown.locator("img[src=x]").count() == 0
    assert IMAGE in shown.inner_text(".docs")
    shown.locator("#documents-end label", has_text="bottom").click()
    shown.wait_for_function("() => location.search.includes('end=bottom')")
    window.shows("#page", "Kinds among the bottom 40")
    shown.locator("#documents-list .ag-center-cols-container .ag-row", has_text="slope").first.click()
    shown.wait_for_function("() => location.search.includes('query=slope')")
    window.shows("#page h3", "Query: reasoning")
    assert window.query()["end"] == "bottom"
    text = window.settled()
    other = Reader(browser, home)
    other.go(shown.url.removeprefix(home))
    assert other.settled() == text
    assert shown.evaluate("window.owned") is None
    for one in (window, other):
        one.calm()
        one.context.close()
