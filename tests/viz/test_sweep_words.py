"""Sentences about a sweep: each number is the table's, and what the tables do not show is said to be so."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from sweep.synthetic_tables import kept_share

from arithcirc.catalogue import SweepFolder
from arithcirc.viz.emergence import summary, words
from arithcirc.viz.emergence.data import SweepData, read_sweep

PLUS, MINUS = "+ addition", "− subtraction"
Change = Callable[[pd.DataFrame], pd.DataFrame]


@pytest.fixture(scope="module")
def data(planted_sweep: SweepFolder) -> SweepData:
    return read_sweep(planted_sweep)


def changed(data: SweepData, table: str, change: Change) -> SweepData:
    tables = {**data.tables, table: change(data.tables[table].copy())}
    return SweepData(tables=tables, config=data.config, models=data.models, manifest=data.manifest)


def say(data: SweepData, section: str, who: str = PLUS) -> str:
    return dict(words.findings(data)[section]).get(who, "")


def test_kept_neurons_are_measured_from_what_none_of_them_do(data: SweepData) -> None:
    kept = np.array([kept_share(place, rival=False) for place in range(1, 6)])
    given = (kept - 0.2) / (0.9 - 0.2)
    said = say(data, "kept")
    assert said.startswith("On shared prompts, ")
    ends = f"({words.share(given[0])} at first, {words.share(given[-1])} at last)"
    assert f"the kept ones give {words.share(given.mean())} {ends}" in said
    assert "step 64 to 1,000, n = 40" in said
    assert f"F(kept) / F(all) is {words.share((kept / 0.9).mean())}" in said
    assert "its floor, F with none, is not given" in said
    assert "tells nothing" not in said


def test_checkpoints_at_which_kept_neurons_tell_nothing_are_named(data: SweepData) -> None:
    assert "At steps 64 and 128 the kept ones are no more than two standard errors" in say(data, "kept", MINUS)

    def few(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(n=table["n"].where(table["step"] != 64, words.TESTABLE - 1))

    said = say(changed(data, "kept_faithfulness", few), "kept")
    assert "step 128 to 1,000" in said
    assert f"Fewer than {words.TESTABLE} shared prompts at step 64" in said

    def high(table: pd.DataFrame) -> pd.DataFrame:
        at = (table["neurons"] == "none") & (table["step"] == 512)
        return table.assign(faithfulness=table["faithfulness"].mask(at, 0.85))

    said = say(changed(data, "kept_faithfulness", high), "kept")
    assert "(b) tells nothing at step 512, where all labelled neurons add less than 0.1 to F with none" in said
    nowhere = changed(data, "kept_faithfulness", lambda table: table.assign(n=1))
    assert say(nowhere, "kept") == (
        f"No checkpoint before the reference has {words.TESTABLE} shared prompts or more: (b) tells nothing."
    )


def test_ablations_are_averaged_over_the_steps_of_the_verdict(data: SweepData, planted_sweep: SweepFolder) -> None:
    said = say(data, "knockouts", MINUS)
    assert "kept ones cost 0.37 more" in said
    assert "with p\N{NO-BREAK SPACE}<\N{NO-BREAK SPACE}.01 at 3 of 5 checkpoints" in said
    verdict = planted_sweep.table("verdict").set_index(["operator", "question"])["detail"]
    assert "mean gap 0.37" in verdict["-", "carried"]

    def few(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(n=table["n"].where(table["step"] > 128, words.TESTABLE - 1))

    assert "at 3 of 3 checkpoints" in say(changed(data, "knockouts_by_prompt", few), "knockouts", MINUS)


def test_half_way_is_where_the_verdict_has_it(data: SweepData, planted_sweep: SweepFolder) -> None:
    verdict = planted_sweep.table("verdict").set_index(["operator", "question"])["step"]
    assert f"first reached at step {verdict['+', 'early']:,}" in say(data, "accuracy")

    def guessed(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(base_rate=0.4)

    assert "first reached at step 1,000" in say(changed(data, "steps", guessed), "accuracy")


def test_births_say_when_and_deaths_how_seldom(data: SweepData) -> None:
    births = data.tables["births"].query("operator == '+' and labels == 'significant'")
    stays, dead = births[births["fate"] == "stays"], births[births["fate"] == "dies"]
    median = int(np.sort(stays["birth"].astype(int))[(len(stays) - 1) // 2])
    said = say(data, "births")
    assert f"the median birth is step {median:,}, and {words.share((stays['first'] == 2000).mean())} were seen" in said
    once = int((dead["present"] == 1).sum())
    assert f"Of those that die, {once} ({words.share(once / len(dead))}) were seen at one checkpoint only" in said


def test_every_offset_of_a_jump_has_its_interval(data: SweepData) -> None:
    jumps = data.tables["jumps"].query("operator == '+' and labels == 'significant' and heuristic == '(all)'")
    assert set(jumps["offset"]) == {-2, -1, 0, 1, 2}
    said = say(data, "jumps")
    assert [
        said.count(f"{n} checkpoint{'s' if n > 1 else ''} {word}") for n in (1, 2) for word in ("before", "after")
    ] == [1] * 4


def test_circuits_say_where_there_is_none(data: SweepData) -> None:
    said = say(data, "circuits", MINUS)
    assert said.startswith("A circuit at 5 of 7 checkpoints; ")
    assert "task failed at step 1,000 (weights of step1000 cannot be read: the file is cut short)" in said


def test_shares_of_pairs_stand_beside_both_chances(data: SweepData) -> None:
    row = (
        data.tables["overlap"]
        .query(
            "operator == '+' and what == 'pairs' and labels == 'significant' and prompts == 'shared' and step == 1000"
        )
        .iloc[0]
    )
    chance = f"{words.share(row['expected'])}, {words.share(row['given_neurons'])}"
    assert f"{words.share(row['share'])} at step 1,000 (chance {chance})" in say(data, "overlap")


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (0.0314, "3.1"), (0.0996, "10"), (0.234, "23"), (0.996, "99.6"), (1.0, "100")]
)
def test_per_cent_have_decimals_only_where_they_say_something(value: float, text: str) -> None:
    assert words.share(value) == f"{text}\N{NO-BREAK SPACE}%"


def test_one_sentence_answers_for_all_operators(data: SweepData) -> None:
    assert summary.overview(data) == [
        "The final heuristics appeared early for both operators, they carry accuracy at every checkpoint that can "
        "show it for + (partly for −), and another mechanism shows early on for neither operator (partly for −)."
    ]
    assert summary.headline(data).endswith(summary.overview(data)[0])

    def lost(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(answer=table["answer"].where(table["question"] != "early", "unknown"))

    said = summary.overview(changed(data, "verdict", lost))[0]
    assert said.startswith("The final heuristics appeared early for neither operator (not known for +, −), ")
    assert summary.overview(SweepData(tables={}, models=data.models, manifest=data.manifest)) == []
