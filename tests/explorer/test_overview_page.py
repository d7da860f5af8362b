"""The overview: its words and maps say what the tables hold, admit what they do not, and lead on from a cell."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from explorer.asking import asker, fill, settled
from explorer.synthetic_explorer import make_explorer_run
from viz import synthetic

from arithcirc.explorer.source import Source, open_source
from arithcirc.explorer.view import View
from arithcirc.store import RunFolder
from arithcirc.viz import operator_facts, story
from arithcirc.viz.operator_facts import Facts, absent, gather
from arithcirc.viz.summary import Accuracy, OperatorSummary
from arithcirc.viz.theme import number, percent
from arithcirc.viz.verdicts import Prediction, by_kind

OPERATORS = synthetic.OPERATORS


@pytest.fixture(scope="module")
def source(explorer_run: RunFolder) -> Source:
    return open_source("run", explorer_run.path)


@pytest.fixture(scope="module")
def facts(source: Source) -> dict[str, Facts]:
    return gather(source)


def view(op: str) -> View:
    return View("overview", "run", op=op)


def said(steps: list[story.Step]) -> str:
    return " ".join(f"{s.claim} {s.text}" for s in steps)


# -- facts -----------------------------------------------------------------------------------------------------------


def test_facts_are_those_of_the_tables(source, facts):
    assert list(facts) == list(OPERATORS)
    for operator, found in facts.items():
        assert found.summary.evaluate.n_heads == synthetic.CHOSEN[operator]
        f = synthetic.faithfulness_value(operator, synthetic.CHOSEN[operator], "evaluate")
        assert found.summary.evaluate.faithfulness == pytest.approx(f)
        table = source.table("label_summary", operator).iloc[0]
        assert found.labelled == table["significant"] / table["important"]


def test_ablation_by_prompt_is_quoted_at_the_largest_size_up_to_25(source, facts):
    table = source.table("knockouts_by_prompt")
    rows = table[(table["ablation"] == "zero") & (table["per_layer"] == 25)].set_index(["operator", "arm"])
    for operator, found in facts.items():
        quoted = found.by_prompt
        assert quoted["per_layer"] == 25
        for arm in ("targeted", "random"):
            assert quoted[arm] == rows.loc[(operator, arm), "accuracy"]
        assert quoted["p"] == rows.loc[(operator, "random"), "p"]


def test_labels_of_a_sweep_are_not_mixed(source):
    table = source.table("knockouts_by_prompt")
    other = table.assign(labels="significant", accuracy=0.123)
    both = pd.concat([other, table.assign(labels="matched")])
    data = type(source.data())({"knockouts_by_prompt": both}, {}, {"knockout": {"labels": "matched"}})
    assert operator_facts._by_prompt(data, "+")["targeted"] != 0.123
    data = type(source.data())({"knockouts_by_prompt": both}, {}, {"knockout": {"labels": "significant"}})
    assert operator_facts._by_prompt(data, "+")["targeted"] == 0.123


# -- words -----------------------------------------------------------------------------------------------------------


def test_the_story_quotes_the_numbers_of_the_operator(source, facts):
    for operator, found in facts.items():
        text = said(story.story(view(operator), source, found))
        accuracy = found.summary.accuracy
        assert f"{accuracy.correct:,} of {accuracy.n:,} prompts" in text
        assert f"{synthetic.CHOSEN[operator]} of 24 heads" in text
        assert number(found.by_prompt["targeted"], 2) in text


def test_a_missed_target_a_guess_and_an_insignificant_gap_are_not_sold(source, facts):
    steps = story.story(view("*"), source, facts["*"])  # its F misses the target
    assert facts["*"].summary.reached is False
    assert "misses the target" in said(steps)
    assert " heads miss the target with F = " in said(steps)
    guess = Facts("+", OperatorSummary("+", accuracy=Accuracy(100, 5, 0.05, 0.06)))
    assert story.story(view("+"), source, guess)[0].claim == "It cannot add."
    for quoted, claim in (
        ({"targeted": 0.5, "random": 0.9, "p": 1e-4}, "Breaking them by prompt costs answers."),
        ({"targeted": 0.9, "random": 0.5, "p": 1e-4}, "Breaking them is no proof yet."),
        ({"targeted": 0.5, "random": 0.9, "p": 0.2}, "Breaking them is no proof yet."),
        ({"targeted": 0.5, "random": 0.9, "p": np.nan}, "Breaking them is no proof yet."),
    ):
        broken = Facts("+", by_prompt={"per_layer": 25.0, "neurons": 9.0, "n": 50.0} | quoted)
        assert story._break(view("+"), broken).claim == claim


def test_the_verdict_is_the_headline_and_the_circuit_s_own_accuracy_stands_beside_f(source, facts):
    found = facts["+"]
    text = said(story.story(view("+"), source, found))
    assert f"F = {number(found.summary.evaluate.faithfulness)}" in text
    assert f"answer {percent(found.summary.evaluate.accuracy)}" in text
    prompt, heuristic = "by prompt: more than random neurons", "breaks inside more than outside"
    for by_prompt, by_heuristic, word in (
        (True, True, "holds"),
        (False, False, "does not hold"),
        (True, False, "holds in part: by prompt, not by heuristic"),
        (False, True, "holds in part: by heuristic, not by prompt"),
        (True, None, "holds"),
        (None, None, ""),
    ):
        told = [Prediction(prompt, "", by_prompt, "x"), Prediction(heuristic, "", by_heuristic, "y")]
        assert by_kind(told) == word
    half = [Prediction(prompt, "", True, ""), Prediction("by prompt: x", "", False, ""), Prediction("z", "", False, "")]
    assert by_kind(half) == "holds in part: in part by prompt, not by heuristic"


def test_the_example_is_a_strong_significant_label(source):
    for operator in OPERATORS:
        row = story.example_label(source, operator)
        table = source.table("heuristics", operator)
        same = table[["layer", "neuron", "heuristic"]].eq([row["layer"], row["neuron"], row["heuristic"]]).all(axis=1)
        assert bool(table[same]["significant"].iloc[0])


def test_what_a_run_lacks_is_named_with_its_command(tmp_path):
    kept = ("accuracy", "prompts", "effects")
    run = make_explorer_run(tmp_path / "run", tables=kept, with_maps=False)
    bare = open_source("run", run.path)
    found = story.limits(bare, gather(bare)["+"])
    commands = {limit.command.split()[1] for limit in found if limit.command}
    assert {"probe", "neurons", "heads", "heuristics", "knockout"} <= commands
    assert len(story.story(view("+"), bare, gather(bare)["+"])) == 1


def test_predictions_that_fail_and_those_not_tested_are_told_apart(source, facts):
    names = [limit.what for limit in story.limits(source, facts["/"])]
    assert sum(name.startswith("Does not hold") for name in names) == 2
    names = [limit.what for limit in story.limits(source, facts["*"])]
    assert sum(name.startswith("Not tested") for name in names) == 1
    assert not [name for name in names if name.startswith("Does not hold")]


def test_a_sweep_says_what_it_leaves_out_and_why_a_checkpoint_has_nothing(planted_sweep):
    first, last = (open_source("sweep", planted_sweep.path, revision=r) for r in ("step0", "step2000"))
    found = story.limits(last, gather(last)["+"])
    assert found[0].what == "Not part of a sweep"
    assert found[0].command.endswith("--revision=step2000")
    text, command = absent(first, "effects", "+")
    assert text.startswith("step0 has none for addition")
    assert command is None


# -- the page --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ask(explorer_run: RunFolder):
    return asker([explorer_run.path])


def test_every_cell_of_the_head_map_is_the_tables_and_leads_to_its_head(ask):
    known = ask.callback("..overview-heads.figure")
    key = ask.go("/").view["run"]
    values = {
        "overview-position.value": "equals",
        "overview-change.value": "op1",
        "overview-metric.value": "logit_diff",
    }
    answer = ask.post(fill(known, values | {"view.data": settled(key, "overview", "-")})).calm()
    figure = answer.json["response"]["overview-heads"]["figure"]
    z = np.array(_array(figure["data"][0]["z"])).reshape(6, 4)
    for layer in range(6):
        for head in range(4):
            assert z[layer, head] == pytest.approx(synthetic.head_effect("-", "op1", "equals", layer, head), rel=1e-5)
    assert figure["layout"]["meta"] == {
        "page": "heads", "parameters": {"layer": "y", "head": "x"}, "values": {}, "fixed": {},
    }  # fmt: skip


def _array(held):
    """A plotly array: a list, or base64 of float32."""
    if isinstance(held, list):
        return held
    import base64

    return np.frombuffer(base64.b64decode(held["bdata"]), dtype=held["dtype"]).astype(float)


def test_families_lead_to_their_neurons_by_the_tables_word(ask):
    known = ask.callback("overview-families.figure")
    key = ask.go("/").view["run"]
    answer = ask.post(fill(known, {"overview-labels.value": "matched", "view.data": settled(key, "overview", "+")}))
    meta = answer.calm().json["response"]["overview-families"]["figure"]["layout"]["meta"]
    assert meta["values"]["family"]["digit pattern"] == "pattern"


def test_choices_that_do_not_exist_fall_back_or_are_said(ask):
    answer = ask.go("/?op=%2B&position=nowhere&change=%00&metric=<b>&labels=none").calm()
    assert "Where the answer is computed" in answer.page
    known = ask.callback("..overview-heads.figure")
    key = answer.view["run"]
    values = {"overview-position.value": "nowhere", "overview-change.value": None, "overview-metric.value": 7}
    ask.post(fill(known, values | {"view.data": settled(key, "overview")}, 3)).calm()


@pytest.mark.parametrize("lost", ["effects", "faithfulness", "heuristics"])
def test_a_missing_table_leaves_the_rest(lost, explorer_run, tmp_path):
    folder = Path(shutil.copytree(explorer_run.path, tmp_path / "run", ignore=shutil.ignore_patterns("*.safetensors")))
    (folder / f"{lost}.parquet").unlink()
    page = asker([folder]).go("/?op=%2B").calm().page
    assert "It can add." in page
    assert "What this run could not say" in page
    assert f"table '{lost}'" in page


def test_what_an_address_asks_for_in_vain_is_said_and_the_address_is_put_right(planted_sweep, ask):
    sweep = asker([planted_sweep.path])
    for asked in ("step=step0", "step=0", "revision=step0"):
        answer = sweep.go(f"/?op=%2B&{asked}").calm()
        assert answer.view["revision"] == "step0"
        assert "which this sweep does not have" not in answer.page
        assert "step0 has no circuit for + addition" in answer.page
    answer = sweep.go("/heads?op=%5E&revision=step7&foo=bar").calm()
    assert (
        "The address asks for operator ^ and checkpoint step7, which this sweep does not have; shown is" in answer.page
    )
    assert "foo = bar, which page Heads does not know" in answer.page
    rewritten = answer.json["response"]["frame-shown"]["data"]["address"]
    assert "revision=step2000" in rewritten
    assert "foo" not in rewritten
    lost = View.parse("/prompt", "op=+&prompt=226+68=&q=both+in+1+2")  # a + that lost its escape
    assert (lost.op, lost.choices["prompt"], lost.choices["q"]) == ("+", "226+68=", "both in 1 2")
    plain = ask.go("/?op=%2B&change=op1").calm()
    assert "The address" not in plain.page
    assert plain.json["response"]["frame-shown"]["data"]["address"] == ""


# -- in the browser --------------------------------------------------------------------------------------------------


def test_a_click_on_a_head_opens_it_and_a_choice_is_kept_in_the_address(browser, served):
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    try:
        page.goto(f"{served}/?op=-")
        page.get_by_text("op1 only", exact=True).click()
        page.wait_for_function("() => location.search.includes('change=op1')", timeout=120_000)
        page.locator("#overview-heads").scroll_into_view_if_needed()
        box = page.locator("#overview-heads .nsewdrag").bounding_box()
        x, y = box["x"] + box["width"] * 1.5 / 4, box["y"] + box["height"] * 3.5 / 6  # head 1, layer 2 of 0..5
        page.mouse.move(x, y)
        page.mouse.click(x, y)
        page.wait_for_url("**/heads?*", timeout=120_000)
        assert "layer=2" in page.url
        assert "head=1" in page.url
        assert "change" not in page.url
    finally:
        page.close()
