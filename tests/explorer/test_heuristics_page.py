"""Page Heuristics: counts and accuracies are the tables', the words follow from the numbers, a click chooses."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from explorer.asking import Asker, asker, fill, settled
from explorer.planted_live import HOLDS, result
from viz.synthetic_neurons import LABELS, arm_accuracy

from arithcirc.catalogue import SweepFolder
from arithcirc.errors import RequestError
from arithcirc.explorer.heuristic_table import carriers, example, heuristic_table
from arithcirc.explorer.pages.heuristics_chosen import broken, matched
from arithcirc.explorer.source import Source, open_source
from arithcirc.store import RunFolder
from arithcirc.viz import theme
from arithcirc.viz.inside_outside import in_out, scatter
from arithcirc.viz.masks import mask
from arithcirc.viz.meaning import meaning

CHOSEN = "op2 = 8 mod 10"


# -- numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ablation", ["zero", "mean", "resample"])
def test_a_row_holds_the_tables_numbers(source: Source, ablation: str):
    table, problem = heuristic_table(source, "+", ablation)
    assert problem is None
    labels = source.table("heuristics", "+")
    labels = labels[labels["matched"]]
    assert set(table["heuristic"]) == set(labels["heuristic"])
    for row in table.to_dict("records"):
        mine = labels[labels["heuristic"] == row["heuristic"]]
        assert row["matched"] == len(mine.drop_duplicates(["layer", "neuron"]))
        assert row["significant"] == mine["significant"].sum()
        assert row["best"] == mine["score"].max()
        place = [name for name, *_ in LABELS].index(row["heuristic"])
        for name, arm, where in (
            ("inside", "targeted", "in"), ("outside", "targeted", "out"), ("random_inside", "random", "in"),
        ):  # fmt: skip
            assert row[name] == pytest.approx(arm_accuracy("+", arm, where, ablation) - 0.01 * place, abs=0.005)
        assert row["gap"] == pytest.approx(row["outside"] - row["inside"])
        assert row["p"] == pytest.approx(0.001 * (place + 1))
    assert (table["gap"].diff().dropna() <= 1e-12).all()


def test_its_neurons_are_those_labelled_with_their_effects(source: Source):
    rows = carriers(source, "+", CHOSEN)
    labels = source.table("heuristics", "+")
    labels = labels[(labels["heuristic"] == CHOSEN) & labels["matched"]]
    assert set(zip(rows["layer"], rows["neuron"], strict=True)) == set(
        zip(labels["layer"], labels["neuron"], strict=True)
    )
    neurons = source.table("neurons", "+").query("method == 'exact' and metric == 'logit_diff'")
    effects = neurons.set_index(["layer", "neuron"])["effect"]
    for row in rows.to_dict("records"):
        assert row["effect"] == effects[row["layer"], row["neuron"]]


@pytest.mark.parametrize("operator", ["+", "-", "*", "/"])
def test_the_example_is_answered_correctly_and_inside(source: Source, own: Source, operator: str):
    answers = source.table("answers", operator)
    right = {(a, b) for a, b, ok in answers[["op1", "op2", "correct"]].itertuples(index=False) if ok}
    for name, holds in HOLDS.items():
        text = example(source, operator, name)
        if text is None:
            assert not [p for p in right if holds_of(operator, holds, *p)]
            continue
        op1, op2 = (int(part) for part in text.rstrip("=").split(operator))
        assert (op1, op2) in right
        assert holds_of(operator, holds, op1, op2)
    assert example(source, operator, "of another form") is not None
    (own.path / "answers.parquet").unlink(missing_ok=True)
    assert example(own, operator) is None


def holds_of(operator: str, holds: Any, op1: int, op2: int) -> bool:
    a, b = np.array([op1]), np.array([op2])
    return bool(holds(a, b, result(operator, a, b))[0])


def test_without_ablations_the_labels_stay_and_it_says_why(own: Source, planted_sweep: SweepFolder):
    (own.path / "knockouts_by_heuristic.parquet").unlink()
    table, problem = heuristic_table(own, "+", "zero")
    assert len(table)
    assert table["inside"].isna().all()
    assert problem is not None
    assert "arithcirc" in problem
    page = asker([own.path]).go("/heuristics?op=%2B").calm().page
    assert "No accuracies by heuristic" in page
    assert CHOSEN in page
    sweep = open_source("sweep", planted_sweep.path)
    operator = str(sweep.table("heuristics")["operator"].iloc[0])
    table, problem = heuristic_table(sweep, operator, "zero")
    assert len(table)
    assert problem is not None
    assert "a sweep does not ablate heuristics one by one" in problem


def test_no_label_at_all_is_said(own: Source):
    own.table("heuristics").query("operator != '+'").to_parquet(own.path / "heuristics.parquet")
    assert "No heuristic of + addition here" in asker([own.path]).go("/heuristics?op=%2B").calm().page
    (own.path / "heuristics.parquet").unlink()
    assert "Not computed yet" in asker([own.path]).go("/heuristics?op=%2B").calm().page


def test_ablations_of_another_kind_are_refused_in_one_line(source: Source):
    table = source.table("knockouts_by_heuristic")
    with pytest.raises(RequestError):
        in_out(table, "^", "zero")
    with pytest.raises(RequestError, match="own neurons"):
        in_out(table[table["arm"] == "random"], "+", "zero")
    with pytest.raises(RequestError, match="no column"):
        in_out(table.drop(columns="p"), "+", "zero")


# -- the figure --------------------------------------------------------------------------------------------------------


def test_the_scatter_draws_each_heuristic_where_it_is(source: Source):
    table = in_out(source.table("knockouts_by_heuristic"), "+", "zero")
    figure = scatter(table, chosen=CHOSEN)
    points = {
        name: (float(x), float(y))
        for trace in figure.data
        if trace.customdata is not None and trace.name != "random important neurons"
        for name, x, y in zip(trace.customdata, trace.x, trace.y, strict=True)
    }
    assert set(points) == set(table["heuristic"])
    for row in table.to_dict("records"):
        assert points[row["heuristic"]] == pytest.approx((row["outside"], row["inside"]), abs=1e-6)
    (ring,) = [trace for trace in figure.data if trace.name == "chosen"]
    assert (ring.x[0], ring.y[0]) == pytest.approx(points[CHOSEN])
    assert figure.layout.xaxis.range == figure.layout.yaxis.range


def test_few_prompts_are_not_drawn_and_nothing_is_not_an_error(source: Source):
    table = in_out(source.table("knockouts_by_heuristic"), "+", "zero")
    few = table.assign(n_in=np.where(table["heuristic"] == CHOSEN, 9, 100))
    drawn = [t for t in scatter(few, chosen=CHOSEN).data if t.customdata is not None]
    assert CHOSEN not in {name for trace in drawn for name in trace.customdata}
    assert not scatter(table.iloc[:0]).data


# -- words -------------------------------------------------------------------------------------------------------------


def row(**values: Any) -> dict[str, Any]:
    return {
        "heuristic": CHOSEN, "matched": 19, "significant": 17, "best": 0.93, "base_rate": 0.1, "neurons": 19,
        "n_in": 100, "inside": 0.41, "n_out": 100, "outside": 1.0, "control": 19, "random_inside": 0.98,
        "random_outside": 0.99, "p": 1e-9, "gap": 0.59,
    } | values  # fmt: skip


def test_the_sentence_reads_the_numbers():
    assert matched(row()) == (
        "It holds when op2 ends in 8. 19 important neurons carry it (17 significantly); the best shares "
        f"{theme.percent(0.93)} of its strongest prompts with it, where a random map would share {theme.percent(0.1)}."
    )
    assert broken(row(), "zero") == (
        "Zeroing its 19 neurons leaves accuracy 0.41 inside (n = 100) and 1.00 outside (n = 100); as many random "
        "important neurons of the same layers leave 0.98 and 0.99. So these neurons matter for these prompts in "
        "particular (p = 1e−9 against random ones)."
    )


def test_names_of_the_same_prompts_are_ablated_as_one_and_say_so(own: Source):
    """Of a product, "both = 1 mod 2" and "result = 1 mod 2" are one set of prompts."""
    labels = own.table("heuristics").copy()
    twice = labels[(labels["operator"] == "*") & (labels["heuristic"] == CHOSEN) & labels["matched"]].iloc[:2]
    pair = ("both = 1 mod 2", "result = 1 mod 2")
    rows = [twice.iloc[[i]].assign(heuristic=name, end="bottom") for i, name in enumerate(pair)]
    pd.concat([labels, *rows]).to_parquet(own.path / "heuristics.parquet")
    broke = own.table("knockouts_by_heuristic")
    new = broke[(broke["operator"] == "*") & (broke["heuristic"] == CHOSEN)].assign(heuristic=pair[0], neurons=2)
    pd.concat([broke, new]).to_parquet(own.path / "knockouts_by_heuristic.parquet")
    table = heuristic_table(own, "*", "zero")[0].set_index("heuristic")
    assert [table.loc[name, "same"] for name in pair] == [*reversed(pair)]
    assert set(table.loc[[*pair], "neurons"]) == {2}
    assert table.loc[pair[0], "inside"] == table.loc[pair[1], "inside"]
    said = broken({"heuristic": pair[1], **table.loc[pair[1]]}, "zero")
    assert "the 2 neurons that carry it or “both = 1 mod 2”, which holds of the same prompts, leaves" in said
    assert "lowest prompts" in matched({"heuristic": pair[1], **table.loc[pair[1]]})
    assert not table.drop(index=[*pair])["same"].any()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"p": 0.2}, "no more than random ones (p = 0.200)"),
        ({"inside": 0.99, "gap": 0.01}, "does without them"),
        ({"inside": 1.0, "outside": 0.76, "gap": -0.24}, "they do for prompts outside it"),
        ({"outside": 0.45, "gap": 0.04}, "for prompts outside the heuristic nearly as much"),
        ({"n_in": 4}, "too few to say more"),
        ({"control": 7}, "7 (there are no more) random important neurons"),
        ({"random_inside": float("nan")}, "no random control"),
        ({"inside": float("nan")}, "not ablated"),
        ({"neurons": 1}, "its one neuron leaves"),
    ],
)
def test_the_verdict_follows_from_the_numbers(values: dict[str, Any], said: str):
    assert said in broken(row(**values), "zero")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("op2 = 8 mod 10", "op2 ends in 8"),
        ("op1 = 7 mod 100", "op1 ends in 07"),
        ("result = 1 mod 2", "the result is odd"),
        ("both = 0 mod 2", "each operand is even"),
        ("op1 = 0 mod 7", "op1 is a multiple of 7"),
        ("op1 = 3 mod 7", "op1 leaves remainder 3 when divided by 7"),
        ("result in 150..180", "the result is from 150 to 179"),
        ("result in -20..-10", "the result is from -20 to -11"),
        ("op1 matches .5.", "op1 has the tens digit 5"),
        ("result matches 1.8", "the result has the hundreds digit 1 and the last digit 8"),
        ("result in {1, 2, 3}", "the result is 1, 2 or 3"),
        ("op1 = 42", "op1 is 42"),
        ("op1 = op2", "both operands are equal"),
        ("<b>x</b>", "<b>x</b>"),
        ("op1 matches ...", "op1 matches ..."),
    ],
)
def test_names_are_put_in_words(name: str, said: str):
    assert meaning(name) == said


def test_every_planted_name_with_a_mask_has_words():
    for name in (*HOLDS, *(name for name, *_ in LABELS)):
        assert mask(name, "+", 0, (60, 60)) is not None
        assert meaning(name) != name


# -- the page ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def asking(explorer_run: RunFolder) -> Asker:
    return asker([explorer_run.path])


def test_an_address_restores_the_choice(asking: Asker):
    page = asking.go(f"/heuristics?op=-&label={CHOSEN.replace(' ', '+')}&ablation=mean&family=modulo").calm().page
    assert "It holds when op2 ends in 8." in page
    assert "Setting its 12 neurons to the mean over prompts" in page
    other = asking.go("/heuristics?op=-&label=%3Cscript%3E&ablation=x&family=y").calm().page
    assert "Zeroing its" in other
    assert "<script>" not in other


@pytest.mark.parametrize("junk", [None, 3, "x", {"a": 1}, ["y"], "<script>"])
def test_callbacks_answer_junk_calmly(asking: Asker, junk: Any):
    view = {"view.data": settled("planted/step4000", "heuristics")}
    for known in asking.callbacks():
        if "heuristics-" in known["output"]:
            asking.post(fill(known, view, junk)).calm(forged=True)


def test_the_list_and_the_words_follow_the_ablation(asking: Asker):
    view = {"view.data": settled("planted/step4000", "heuristics", "/")}
    rows = asking.post(
        fill(
            asking.callback("heuristics-grid.rowData"),
            view | {"heuristics-ablation.value": "resample", "heuristics-family.value": "modulo"},
        )
    ).calm().json["response"]["heuristics-grid"]["rowData"]  # fmt: skip
    assert [r["heuristic"] for r in rows] == [CHOSEN]
    assert rows[0]["inside"] == pytest.approx(arm_accuracy("/", "targeted", "in", "resample") - 0.01)
    told = asking.post(
        fill(
            asking.callback("heuristics-chosen.children"),
            view | {"heuristics-ablation.value": "resample", "heuristics-label.data": CHOSEN},
        )
    ).calm()
    assert "to what another prompt gives" in told.text


def test_hostile_names_stay_text(own: Source):
    evil = "</script><img src=x onerror=alert(1)>"
    for name in ("heuristics", "knockouts_by_heuristic"):
        table = own.table(name)
        table.assign(heuristic=table["heuristic"].where(table["heuristic"] != CHOSEN, evil)).to_parquet(
            own.path / f"{name}.parquet"
        )
    answer = asker([own.path]).go("/heuristics?op=%2B&label=%3C/script%3E%3Cimg+src%3Dx+onerror%3Dalert(1)%3E").calm()
    texts = [one["props"]["children"] for one in walk(answer.json["response"]["page"]) if one["type"] == "Text"]
    assert any(f"It holds when {evil}." in text for text in texts if isinstance(text, str))


def walk(part: Any) -> Iterator[dict[str, Any]]:
    """Every component below."""
    if isinstance(part, dict):
        if "props" in part and "type" in part:
            yield part
        for value in part.values():
            yield from walk(value)
    elif isinstance(part, list):
        for value in part:
            yield from walk(value)


def test_an_empty_table_of_ablations_is_no_crash(own: Source):
    table = own.table("knockouts_by_heuristic").iloc[:0]
    assert isinstance(table, pd.DataFrame)
    table.to_parquet(own.path / "knockouts_by_heuristic.parquet")
    assert "No accuracies by heuristic" in asker([own.path]).go("/heuristics?op=%2B").calm().page


@pytest.mark.slow
@pytest.mark.browser
def test_a_row_chooses_and_a_neuron_opens(served: str, browser: Any):
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    problems: list[str] = []
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: problems.append(str(e)))
    page.goto(f"{served}/heuristics?op=%2B")
    page.wait_for_selector("#heuristics-grid .ag-row")
    page.locator("#heuristics-grid .ag-row", has_text=CHOSEN).click()
    page.wait_for_selector("#heuristics-chosen:has-text('op2 ends in 8')")
    page.wait_for_url("**label=op2*")
    page.get_by_text("mean", exact=True).click()
    page.wait_for_selector("#heuristics-chosen:has-text('to the mean over prompts')")
    said, address = page.locator("#heuristics-chosen").inner_text(), page.url
    page.goto("about:blank")
    page.goto(address)
    page.wait_for_selector("#heuristics-neurons .grid-neuron")
    assert page.locator("#heuristics-chosen .mantine-Text-root").first.inner_text() in said
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator("#heuristics-neurons .ag-row").first.click()
    page.wait_for_url("**/neuron?**")
    assert "label=op2" in page.url
    assert problems == []
    page.close()
