"""Page Neurons: the held table against pandas, searches, filters, hostile requests, and the grid in a browser."""

import io
import json
import threading
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import pandas as pd
import pytest
from explorer.asking import Asker, asker, fill, settled

from arithcirc.catalogue import SweepFolder
from arithcirc.components import Neuron
from arithcirc.errors import RequestError, RunConflictError
from arithcirc.explorer import neuron_table as held
from arithcirc.explorer import pins
from arithcirc.explorer.neuron_query import COLUMNS, Wanted, key, nearest, read_search, read_sort
from arithcirc.explorer.neuron_table import neuron_table
from arithcirc.explorer.pages import neurons
from arithcirc.explorer.source import MissingTable, Source, open_source

ALL = 10_000


def expected(source: Source) -> pd.DataFrame:
    """The joined table by pandas: one row per neuron with its best label."""
    rows = source.table("neurons")
    rows = rows[(rows["method"] == "exact") & (rows["metric"] == "logit_diff")]
    labels = source.table("heuristics")
    labels = labels[labels["matched"]].sort_values(
        ["significant", "score", "heuristic"], ascending=[False, False, True], kind="stable"
    )
    keys = ["operator", "layer", "neuron"]
    counted = labels.groupby(keys).agg(labels=("heuristic", "size"), significant=("significant", "sum"))
    best = labels.drop_duplicates(keys)[[*keys, "heuristic", "family", "end", "score", "base_rate", "q", "significant"]]
    best = best.rename(columns={"significant": "label_significant"})
    joined = rows.merge(counted, on=keys, how="left").merge(best, on=keys, how="left")
    return joined.fillna({"labels": 0, "significant": 0})


def ids(rows: list[dict[str, Any]]) -> list[tuple[str, int, int]]:
    return [(row["operator"], row["layer"], row["neuron"]) for row in rows]


def listed(frame: pd.DataFrame) -> list[tuple[str, int, int]]:
    return [
        (str(o), int(layer), int(n)) for o, layer, n in frame[["operator", "layer", "neuron"]].itertuples(index=False)
    ]


def test_every_neuron_has_one_row_with_its_best_label(source: Source):
    rows, count, _ = neuron_table(source).page(Wanted(), 0, ALL)
    wanted = expected(source)
    assert count == len(rows) == len(wanted)
    by_id = {(r["operator"], r["layer"], r["neuron"]): r for r in rows}
    for row in wanted.to_dict("records"):
        found = by_id[row["operator"], row["layer"], row["neuron"]]
        for name in ("effect", "std", "score", "base_rate", "q"):
            assert (found[name] is None) == pd.isna(row[name])
            assert found[name] is None or found[name] == pytest.approx(row[name], rel=1e-6)
        for name in ("rank", "important", "labels", "significant"):
            assert found[name] == row[name]
        assert found["heuristic"] == (None if pd.isna(row["heuristic"]) else row["heuristic"])


def test_order_and_pages_are_those_of_pandas(source: Source):
    table = neuron_table(source)
    rows = expected(source)
    rows = rows[rows["operator"] == "*"].sort_values(
        ["score", "layer", "neuron"], ascending=[False, True, True], na_position="last", kind="stable"
    )
    wanted = Wanted("*", sort=(("score", "desc"),))
    pages = [table.page(wanted, first, first + 37)[0] for first in range(0, len(rows), 37)]
    assert [one for page in pages for one in ids(page)] == listed(rows)
    backwards = table.page(Wanted("*", sort=(("name", "desc"),)), 0, ALL)[0]
    assert ids(backwards) == listed(rows.sort_values(["layer", "neuron"], ascending=False))


@pytest.mark.parametrize(
    ("wanted", "kept"),
    [
        (Wanted(layer=4), lambda r: r["layer"] == 4),
        (Wanted("+", shown="important"), lambda r: (r["operator"] == "+") & r["important"]),
        (Wanted(shown="unlabelled"), lambda r: r["important"] & (r["labels"] == 0)),
        (Wanted(shown="labelled"), lambda r: r["labels"] > 0),
        (Wanted(shown="significant"), lambda r: r["significant"] > 0),
        (Wanted(search="L4N3, l5 n1"), lambda r: r[["layer", "neuron"]].apply(tuple, axis=1).isin([(4, 3), (5, 1)])),
        (Wanted(search="N7"), lambda r: r["neuron"] == 7),
        (Wanted(search="layer 5"), lambda r: r["layer"] == 5),
        (
            Wanted(filters={"effect": {"filterType": "number", "type": "inRange", "filter": 0.1, "filterTo": 0.5}}),
            lambda r: r["effect"].between(0.1, 0.5),
        ),
        (
            Wanted(
                filters={
                    "heuristic": {
                        "operator": "OR",
                        "conditions": [{"type": "contains", "filter": "MOD"}, {"type": "startsWith", "filter": "op1"}],
                    },
                    "layer": {"type": "greaterThan", "filter": 3},
                }
            ),
            lambda r: (
                (r["heuristic"].fillna("").str.contains("mod") | r["heuristic"].fillna("").str.startswith("op1"))
                & (r["layer"] > 3)
            ),
        ),
        (
            Wanted(pinned=(("+", Neuron(4, 3)), ("-", Neuron(4, 4))), shown="pinned"),
            lambda r: r[["operator", "layer", "neuron"]].apply(tuple, axis=1).isin([("+", 4, 3), ("-", 4, 4)]),
        ),
        (Wanted(shown="pinned"), lambda r: r["layer"] < 0),
    ],
)
def test_what_is_asked_for_is_what_pandas_keeps(source: Source, wanted: Wanted, kept: Any):
    rows, count, _ = neuron_table(source).page(wanted, 0, ALL)
    right = expected(source)
    right = right[kept(right)]
    assert count == len(rows) == len(right)
    assert set(ids(rows)) == set(listed(right))


def test_the_label_shown_is_the_one_searched_for(source: Source):
    labels = source.table("heuristics")
    labels = labels[labels["matched"]]
    name = "op2 = 8 mod 10"
    for text in (name, "OP2=8 MOD 10", "  op2 = 8   mod 10 "):
        rows, count, search = neuron_table(source).page(Wanted(search=text), 0, ALL)
        assert search.exact
        assert set(ids(rows)) == set(listed(labels[labels["heuristic"] == name]))
        assert count > 0
        assert {row["heuristic"] for row in rows} == {name}
    own = labels[labels["heuristic"] == name].set_index(["operator", "layer", "neuron"])["score"]
    assert all(row["score"] == pytest.approx(own[row["operator"], row["layer"], row["neuron"]]) for row in rows)
    rows, _, search = neuron_table(source).page(Wanted(search="digit pattern"), 0, ALL)
    assert (search.family, {row["family"] for row in rows}) == ("pattern", {"pattern"})
    rows, _, search = neuron_table(source).page(Wanted(search="mod"), 0, ALL)
    assert not search.exact
    assert all("mod" in row["heuristic"] for row in rows)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("L3N17", {"neurons": (Neuron(3, 17),)}),
        ("l3 n17;L4N2", {"neurons": (Neuron(3, 17), Neuron(4, 2))}),
        ("Layer 3", {"layer": 3}),
        ("L12", {"layer": 12}),
        ("n5", {"index": 5}),
        ("neuron 5", {"index": 5}),
        ("both in a range", {"family": "both_range"}),
        ("MODULO", {"family": "modulo"}),
        ("op2=8 mod 10", {"label": "op2=8mod10", "exact": True}),
        ("mod 10", {"label": "mod10", "exact": False}),
        ("op2 ends in 8", {"label": "op2=8mod10", "exact": True}),
        ("op2 ends in 08", {"label": "op2=8mod100", "exact": False}),
        ("The result is odd", {"label": "result=1mod2", "exact": False}),
        ("op1 is a multiple of 7", {"label": "op1=0mod7", "exact": False}),
        ("'; drop table held; --", {"label": "';droptableheld;--", "exact": False}),
        ("", {"said": ""}),
    ],
)
def test_a_search_is_read_as_people_mean_it(text: str, read: dict[str, Any]):
    search = read_search(text, {key("op2 = 8 mod 10")})
    assert {name: getattr(search, name) for name in read} == read


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(sort=(("effect; drop table held", "asc"),)),
        Wanted(sort=(("effect", "sideways"),)),
        Wanted(filters={"id": {"type": "equals", "filter": 1}}),
        Wanted(filters={"effect": {"type": "1=1 or equals", "filter": 1}}),
        Wanted(filters={"effect": {"type": "equals", "filter": "1"}}),
        Wanted(filters={"effect": {"type": "inRange", "filter": 1}}),
        Wanted(filters={"effect": []}),
        Wanted(filters={"effect": {"conditions": []}}),
        Wanted(filters={"effect": {"conditions": "x"}}),
    ],
)
def test_what_does_not_exist_is_refused_in_one_line(source: Source, wanted: Wanted):
    with pytest.raises(RequestError):
        neuron_table(source).page(wanted, 0, 10)
    assert neuron_table(source).page(Wanted(), 0, 10)[1] > 0


def test_an_order_of_an_address_is_read_or_left():
    assert read_sort("score:desc,name:asc") == (("score", "desc"), ("name", "asc"))
    assert read_sort("") == read_sort("id:desc") == read_sort("score:down") == (("effect", "desc"),)


def test_the_table_is_joined_once_and_again_when_a_file_changes(own: Source, monkeypatch: pytest.MonkeyPatch):
    built = []
    make = held._built
    monkeypatch.setattr(held, "_built", lambda source: built.append(1) or make(source))
    threads = [threading.Thread(target=neuron_table, args=(own,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    labels = own.table("heuristics")
    labels.assign(heuristic="op1 = 7").to_parquet(own.path / "heuristics.parquet")
    assert {name for _, name, _ in neuron_table(own).names} == {"op1 = 7"}
    assert len(built) == 2
    assert len([k for k in held._HELD if k[0] == own.path]) == 1


def test_few_tables_are_held(own: Source, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(held, "MOST_ROWS", 1)
    neuron_table(own)
    assert len(held._HELD) == 1


def test_a_run_without_labels_or_with_damage_says_so(own: Source):
    (own.path / "heuristics.parquet").unlink()
    rows, count, _ = neuron_table(own).page(Wanted(), 0, 5)
    assert count > 0
    assert {row["heuristic"] for row in rows} == {None}
    assert "arithcirc" in str(asker([own.path]).go("/neurons").calm().page)
    (own.path / "neurons.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(MissingTable, match=r"neurons\.parquet is damaged: make it again with 'arithcirc neurons"):
        neuron_table(own)
    (own.path / "neurons.parquet").unlink()
    with pytest.raises(MissingTable):
        neuron_table(own)
    assert "Not computed yet" in asker([own.path]).go("/neurons").calm().page


def test_other_columns_are_a_conflict_not_a_crash(own: Source):
    own.table("neurons").drop(columns="rank").to_parquet(own.path / "neurons.parquet")
    with pytest.raises(RunConflictError, match="cannot be joined"):
        neuron_table(own)


def test_a_sweep_says_from_which_step_a_label_stays(planted_sweep: SweepFolder):
    source = open_source("sweep", planted_sweep.path)
    rows, _, _ = neuron_table(source).page(Wanted(shown="labelled"), 0, ALL)
    births = source.all_steps("births")
    at = source.checkpoint
    assert at is not None
    births = births[(births["labels"] == "matched") & births["birth"].notna() & (births["model"] == at.model)]
    wanted = births.set_index(["operator", "layer", "neuron", "heuristic"])["birth"].to_dict()
    assert rows
    assert [row["birth"] for row in rows] == [
        wanted.get((row["operator"], row["layer"], row["neuron"], row["heuristic"])) for row in rows
    ]


# -- the page's callbacks ----------------------------------------------------------------------------------------------


@pytest.fixture
def asking(own: Source) -> Asker:
    return asker([own.path])


def rows_of(asking: Asker, request: Any, **values: Any) -> Any:
    known = asking.callback("..neurons-grid.getRowsResponse")
    given = {f"neurons-{name}.value": value for name, value in values.items()}
    view = settled("own/step4000", "neurons")
    return asking.post(fill(known, {"neurons-grid.getRowsRequest": request, "view.data": view} | given)).calm()


def test_the_grid_gets_the_rows_it_asks_for(asking: Asker, own: Source):
    pins.set_pin(own, "+", Neuron(4, 3), "mine")
    answer = rows_of(
        asking, {"startRow": 0, "endRow": 4, "sortModel": [{"colId": "score", "sort": "desc"}], "filterModel": {}},
        q="op2 = 8 mod 10", operators="all",
    ).json["response"]  # fmt: skip
    sent = answer["neurons-grid"]["getRowsResponse"]
    right, count, _ = neuron_table(own).page(Wanted(search="op2 = 8 mod 10", sort=(("score", "desc"),)), 0, 4)
    assert sent["rowCount"] == count
    assert [(r["operator"], r["layer"], r["neuron"]) for r in sent["rowData"]] == ids(right)
    assert "label “op2 = 8 mod 10”" in answer["neurons-count"]["children"]
    every = rows_of(asking, {"startRow": 0, "endRow": 400}, shown="pinned").json["response"]
    assert [(r["name"], r["pinned"]) for r in every["neurons-grid"]["getRowsResponse"]["rowData"]] == [("L4N3", "mine")]


@pytest.mark.parametrize(
    "request_",
    [
        None, 3, [], {}, {"startRow": -5, "endRow": "x"}, {"startRow": 10**30, "endRow": 10**31},
        {"startRow": 0, "endRow": 10, "sortModel": [{"colId": "x"}]}, {"startRow": 0, "endRow": 10, "sortModel": [1]},
        {"startRow": 0, "endRow": 10, "filterModel": {"effect": {"type": "equals"}}},
        {"startRow": 0, "endRow": 10, "filterModel": "x"}, {"startRow": True, "endRow": None},
    ],
)  # fmt: skip
def test_malformed_requests_are_answered_calmly(asking: Asker, request_: Any):
    rows_of(asking, request_, q="x" * 5000, layer="9" * 50, family=["a"], shown={}, operators=3)


def test_the_csv_holds_every_row_asked_for(asking: Asker, own: Source):
    answer = asking.client.get("/_neurons.csv?run=own/step4000&op=*&q=op2+%3D+8+mod+10&sort=score:desc&operators=one")
    assert answer.status_code == 200
    assert "attachment" in answer.headers["Content-Disposition"]
    frame = pd.read_csv(io.StringIO(answer.get_data(as_text=True)))
    right, _, _ = neuron_table(own).page(Wanted("*", search="op2 = 8 mod 10", sort=(("score", "desc"),)), 0, ALL)
    assert list(frame.columns) == list(COLUMNS)
    assert listed(frame) == ids(right)
    np.testing.assert_allclose(frame["score"], [row["score"] for row in right])
    for bad in ("?run=../../etc", "?run=own/step4000&filter=%7B%22x%22%3A1%7D"):
        refused = asking.client.get(f"/_neurons.csv{bad}")
        assert refused.status_code == 400
        assert refused.get_data(as_text=True).count("\n") == 1
    empty = asking.client.get("/_neurons.csv?run=own/step4000&q=nothing+like+it").get_data(as_text=True)
    assert empty.splitlines() == [",".join(COLUMNS)]


def test_ticked_rows_lead_to_their_neuron_and_to_the_prompt(asking: Asker, own: Source):
    rows = [
        {"id": "- 4 3", "heuristic": "op2 = 8 mod 10"},
        {"id": "- 4 9"},
        {"id": "+ 2 1"},
        {"id": "evil"},
        7,
        {"id": "- x 1"},
    ]
    view = settled("own/step4000", "neurons", "+", q="x")
    hidden, said, first, off = neurons._choose(asking.context, rows, view)
    assert (hidden, said) == (False, "3 ticked: L4N3, L4N9, L2N1")
    assert first == "/neuron?run=own%2Fstep4000&op=-&layer=4&neuron=3"
    held = dict(parse_qsl(off.partition("?")[2]))
    assert (off.partition("?")[0], held["op"], held["off"]) == ("/prompt", "-", "L4N3,L4N9")
    answers = own.table("answers", "-")
    right = answers[answers["correct"] & (answers["op2"] % 10 == 8)]
    assert held["prompt"] in {f"{a}-{b}=" for a, b in zip(right["op1"], right["op2"], strict=True)}
    assert neurons._choose(asking.context, None, None)[0]


def test_pins_are_saved_or_handed_over(asking: Asker, own: Source):
    known = asking.callback("..neurons-pinned.children")
    values = {
        "neurons-pin.n_clicks": 1, "neurons-grid.selectedRows": [{"id": "+ 4 3"}],
        "view.data": settled("own/step4000", "neurons"),
    }  # fmt: skip
    assert "L4N3" in asking.post(fill(known, values)).calm().text
    assert [p.component for p in pins.read_pins(own)] == [Neuron(4, 3)]
    (own.path / "pins.json.part").mkdir()
    values["neurons-grid.selectedRows"] = [{"id": "+ 4 4"}]
    answer = asking.post(fill(known, values)).calm().text
    assert "pins.json" in answer
    assert "Not saved, downloaded" in answer
    assert [p.component for p in pins.read_pins(own)] == [Neuron(4, 3)]


def test_nothing_found_offers_what_there_is(asking: Asker, own: Source):
    labels = own.table("heuristics")
    only = (labels["heuristic"] == "op2 = 8 mod 10") & (labels["operator"] == "+")
    labels[~only].to_parquet(own.path / "heuristics.parquet")
    search = neuron_table(own).search("op2 ends in 8")
    close, others = neuron_table(own).instead("+", search)
    assert search.exact
    assert {name for name, _ in close} <= set(neuron_table(own).names_of("+"))
    mine = labels[labels["matched"] & (labels["heuristic"] == "op2 = 8 mod 10") & (labels["operator"] == "-")]
    assert others["-"] == len(mine.drop_duplicates(["layer", "neuron"]))
    sent = rows_of(asking, {"startRow": 0, "endRow": 5}, q="op2 ends in 8", operators="one").json["response"]
    near = json.dumps(sent["neurons-near"]["children"])
    assert "op=-&q=op2+%3D+8+mod+10" in near.replace("%2D", "-")
    assert close[0][0] in near
    page = asking.go("/neurons?run=own/step4000&op=%2B").calm().page
    first = int(own.table("neurons", "+").query("important")["layer"].min())
    assert f"are looked for among the important neurons in layer{'s' if first < 5 else ''} {first}" in page
    assert nearest("op2 = 8 mod 10", ["op2 = 1 mod 2", "op1 = 0 mod 2", "op2 = 0 mod 2"])[0] == "op2 = 0 mod 2"


# -- in a browser ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.browser
def test_search_sort_reload_and_open_in_the_browser(served: str, browser: Any):
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    problems: list[str] = []
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: problems.append(str(e)))
    page.goto(f"{served}/neurons?operators=all")
    page.wait_for_selector(".grid-neuron")
    page.keyboard.press("/")
    page.keyboard.type("op2 = 8 mod 10")
    page.wait_for_selector("#neurons-count:has-text('label “op2 = 8 mod 10”')")
    page.locator("#neurons-grid .ag-header-cell[col-id=score]").click()
    page.wait_for_url("**sort=score**")
    found, address = page.locator("#neurons-count").inner_text(), page.url
    page.goto("about:blank")
    page.goto(address)
    page.wait_for_selector(".grid-neuron")
    page.wait_for_selector("#neurons-count:has-text('label “op2 = 8 mod 10”')")
    assert page.locator("#neurons-count").inner_text() == found
    assert page.locator("#neurons-q").input_value() == "op2 = 8 mod 10"
    assert page.locator("#neurons-grid [col-id=score] .ag-sort-descending-icon:not(.ag-hidden)").count() == 1
    page.locator("#neurons-grid [row-index='0'] input[type=checkbox]").first.click()
    page.wait_for_selector("#neurons-chosen:not([hidden])")
    name = page.locator("#neurons-grid [row-index='0'] .grid-neuron").inner_text()
    assert name in str(page.locator("#neurons-off").get_attribute("href"))
    page.locator("#neurons-grid [row-index='0'] [col-id=std]").click()
    page.wait_for_url("**/neuron?**")
    assert f"neuron={name.split('N')[1]}" in page.url
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert problems == []
    page.close()
