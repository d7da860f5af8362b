"""What a claim must pass: answered queries, p after all other claims, other outputs, sources beyond kinds, rules."""

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from influence.planted_scores import planted_study

from arithcirc.influence.findings import accuracy as accuracies
from arithcirc.influence.findings import judging
from arithcirc.influence.findings.accuracy import COLUMNS, accuracy, at_chance, unanswered
from arithcirc.influence.findings.correlation import relations
from arithcirc.influence.findings.judging import Verdict, differs, ends, holm, p_words, table_of
from arithcirc.influence.findings.kinds import Lifts, exchanged
from arithcirc.influence.findings.run import TABLES
from arithcirc.influence.findings.verdict_kinds import mechanism_claims, source_claims
from arithcirc.influence.findings.verdicts import verdicts
from arithcirc.store import RunFolder
from arithcirc.viz.influence import words


def asked(said, *, group="factual", task="capital", answers=None):
    answers = answers or [f"City{i}" for i in range(len(said))]
    right = [a == b for a, b in zip(answers, said, strict=True)]
    rows = {"query": [f"{task}{i}" for i in range(len(said))], "answer": answers, "completion": said, "correct": right}
    return pd.DataFrame(rows).assign(group=group, task=task)


def measured(table, needs=None):
    return accuracy(table, needs or dict.fromkeys(table["query"], ()))


def test_chance_is_the_mean_over_all_orders_of_the_completions():
    answers = ["a", "b", "a", "c"]
    said = ["a", "a", "c", "c"]
    row = measured(asked(said, answers=answers)).iloc[0]
    orders = [sum(s == a for s, a in zip(order, answers, strict=True)) for order in permutations(said)]
    assert row["chance"] == pytest.approx(np.mean(orders) / 4)
    assert row["p"] == pytest.approx(np.mean(np.array(orders) >= 2), abs=0.04)
    assert (row["right"], row["share"], row["queries"]) == (2, 0.5, 4)


def test_only_a_model_that_answers_more_than_chance_is_asked_for_reasons():
    known = [f"City{i}" for i in range(8)]
    assert unanswered(measured(asked(known)), "factual") is None
    few = [*known[:3], *["x"] * 5]
    assert unanswered(measured(asked(few)), "factual").startswith("only 3 of 8 factual queries are answered right")
    alike = measured(asked(["a"] * 12, answers=["a"] * 6 + ["b"] * 6))
    assert alike.iloc[0]["p"] == 1.0
    assert alike.iloc[0]["chance"] == 0.5
    assert unanswered(alike, "factual").startswith("6 of 12 factual queries are answered right (chance 50%")
    assert unanswered(alike, "reasoning") == "there are no reasoning queries"


def test_a_task_at_chance_is_named_once_beside_the_claims_of_each_finding():
    known, guessed = asked([f"City{i}" for i in range(8)]), asked(["a"] * 8, answers=["a"] * 2 + ["b"] * 6, task="s")
    table = measured(pd.concat([known, guessed, asked(["x"], task="t")], ignore_index=True))
    said = at_chance(table, "factual")
    assert len(said) == 1
    assert said[0].startswith("s: 2 of 8 right, at chance (25%, p = 1")
    some = [Verdict(number, "c", "holds", "n", groups=("factual",)) for number in (1, 1, 3)]
    first, again, third = table_of(some, table)["note"]
    assert first == f"{said[0]}; its queries are in these numbers."
    assert again == ""
    assert third == f"{said[0]}; its queries answered right are in these numbers."


def test_the_levels_that_pages_say_are_those_of_the_verdicts():
    said = (words.LEVEL, words.HOLM, words.AT_CHANCE, words.ENOUGH)
    assert said == (judging.LEVEL, judging.HOLM, accuracies.LEVEL, accuracies.ENOUGH)
    assert all(begin.startswith(words.REMARKS) for begin in (judging.OPPOSITE, judging.MEANS))


def test_an_interval_is_rounded_like_its_number_and_lower_is_said_of_a_negative_difference():
    assert ends(pd.Series({"low": -0.0025, "high": 0.0006}), digits=3) == "[-0.003, 0.001]"
    assert ends(pd.Series({"low": np.nan, "high": np.nan})) == "[no interval]"
    assert differs(0.0461, 0.0149, 0.0801) == "higher by 0.046 [0.015, 0.080]"
    assert differs(-0.0271, -0.0482, -0.0033) == "lower by 0.027 [0.003, 0.048]"


def test_queries_alone_in_their_task_are_shuffled_among_each_other():
    known = asked([f"City{i}" for i in range(6)]).assign(task=[f"task{i}" for i in range(6)])
    table = measured(known)
    assert table.iloc[0]["chance"] == pytest.approx(1 / 6)
    assert table.iloc[0]["p"] < 0.02
    assert (table[table["task"] != ""]["p"] == 1.0).all()


def test_worked_steps_are_counted_of_reasoning_alone():
    said = ["first 4+3=7, then 7*2=14, the answer is 14", "the answer is 9"]
    queries = asked(said, group="reasoning", task="two_step", answers=["14", "9"])
    needs = {"two_step0": ("4+3=7", "7*2=14"), "two_step1": ("4+5=9",)}
    assert measured(queries, needs)["steps"].tolist() == [1, 1]
    assert measured(queries.assign(group="control_reasoning"), needs)["steps"].tolist() == [-1, -1]


def test_pairs_with_the_same_output_are_told_apart():
    said = ["3+3=6, so 6*3=18", "3 + 3 = 6, so 6*2=12", "1+1=2, so 2*9=18", "5+5=10, so 10*1=10", "none", "none"]
    queries = asked(said, group="reasoning", answers=said).assign(task=["s"] * 5 + ["t"])
    masks = relations(queries)
    same = {tuple(pair) for pair in np.argwhere(masks["same task, same output"])}
    assert same == {(0, 1), (0, 2)}
    other = masks["same task, other output"]
    assert (masks["same task, same output"] + other == masks["same task"]).all()
    assert [tuple(pair) for pair in np.argwhere(masks["across reasoning, other output"])] == [(i, 5) for i in range(4)]


def test_holms_correction_and_the_smallest_p_of_random_orders():
    found = holm([0.01, np.nan, 0.04, 0.03])
    assert found[[0, 3, 2]].tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert np.isnan(found[1])
    assert p_words(1 / 201, 200) == "p ≤ 0.005"
    assert p_words(2 / 201, 200) == "p = 0.01"
    assert p_words(1e-9) == "p < 0.0001"


def test_a_small_p_among_many_claims_does_not_hold_and_an_opposite_one_is_named():
    none = pd.DataFrame(columns=list(COLUMNS))
    some = [Verdict(1, f"c{i}", "holds", "n", p=0.009) for i in range(6)]
    lonely = Verdict(2, "interval", "holds", "n")
    table = table_of([*some, lonely, Verdict(3, "other", "does not hold", "n", p=1e-6, opposite=True)], none)
    assert set(table["verdict"][:6]) == {"does not hold"}
    assert table["verdict"][6] == "holds"
    assert table["note"][6] == ""
    assert table["note"][7].startswith("The opposite is the case here. Corrected for the 7 claims with a p: p < ")
    assert table_of(some[:1], none)["verdict"][0] == "holds"
    kept = table_of([Verdict(1, "c", "holds", "n", p=0.001, groups=("reasoning",))], none).iloc[0]
    assert (kept["verdict"], kept["numbers"]) == ("cannot be said", "n")
    assert kept["note"] == "There are no reasoning queries."


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    study = RunFolder.open(planted_study(tmp_path_factory.mktemp("verdicts"), documents=320))
    return {name: study.table(name) for name in TABLES}


def test_nothing_is_said_of_queries_that_are_not_answered(tables):
    before = verdicts(tables, 320)
    assert (before["verdict"] == "holds").sum() > 5
    untrained = tables["accuracy"].assign(right=0, share=0.0, p=1.0)
    after = verdicts(tables | {"accuracy": untrained}, 320)
    assert set(after["verdict"]) == {"cannot be said"}
    assert (after["numbers"] == before["numbers"]).all()
    group = tables["accuracy"]["group"]
    half = untrained.where(group == "reasoning", tables["accuracy"])
    found = verdicts(tables | {"accuracy": half}, 320).set_index("claim")
    assert found["verdict"]["Documents that state a fact answered right rank above the others"] == "holds"
    assert found["verdict"]["Reasoning queries rely less on single documents than factual ones"] == "cannot be said"
    assert "0 of 18 reasoning" in found["note"]["Reasoning queries rely less on single documents than factual ones"]


def corpus(seed=0, documents=400):
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, documents)
    source = np.where(kind == 2, 4, 2 * kind + rng.integers(0, 2, documents))  # kind 2 has a source to itself
    return rng, kind, source


def test_exchange_within_kinds_equals_real_permutations():
    rng, kind, source = corpus()
    tops = np.stack([rng.choice(400, 30, replace=False) for _ in range(3)] + [np.arange(30)] * 2)
    mean, spread = exchanged(tops, source, kind, 5)
    counts = []
    for _ in range(1500):
        shuffled = source.copy()
        for k in range(3):
            shuffled[kind == k] = rng.permutation(source[kind == k])
        counts.append(np.bincount(shuffled[tops].ravel(), minlength=5))
    assert mean == pytest.approx(np.mean(counts, axis=0), abs=0.6)
    assert spread == pytest.approx(np.std(counts, axis=0), rel=0.1, abs=1e-9)
    assert spread[4] == 0.0


def _sources(chosen, kind, source, rng):
    """The table of sources where every list draws 12 of the documents that are `chosen`, in both groups."""
    found = Lifts("source", source, [f"s{i}" for i in range(5)], within=kind)
    for group in ("reasoning", "factual"):
        for end in ("top", "bottom"):
            tops = np.stack([rng.choice(np.flatnonzero(chosen), 12, replace=False) for _ in range(12)])
            found.add(tops, group=group, correct="all", method="ekfac_normed", end=end, k=12, n=12)
    return found.table()


def test_a_source_must_stand_out_beyond_the_kinds_it_holds():
    rng, kind, source = corpus(1)
    first = [next(source_claims(_sources(c, kind, source, rng), 12)) for c in (kind == 0, source == 0, kind == 2)]
    assert [one.verdict for one in first] == ["does not hold", "holds", "cannot be said"]
    assert first[0].numbers.startswith("no more than their kinds explain: s")
    assert first[1].numbers.startswith("s0 lift")
    assert first[2].note.startswith("Sources hold one kind only")


def _mechanisms(gaps):
    names = [f"m{i}" for i in range(len(gaps))]
    retrieval = pd.DataFrame({"query": names, "method": "ekfac_normed", "auc": np.array(gaps) + 0.5, "auc_others": 0.5})
    return pd.DataFrame({"query": names, "operator": "+", "heuristic": names}), retrieval


def test_mechanisms_are_judged_by_their_rules():
    rng = np.random.default_rng(3)
    gaps = rng.normal(0.2, 0.05, 12)
    (up,), (down,), (none,), (few,) = (
        mechanism_claims(*_mechanisms(g), 0) for g in (gaps, -gaps, rng.normal(0, 0.1, 12), gaps[:4])
    )
    assert [v.verdict for v in (up, down, none, few)] == ["holds", *["does not hold"] * 2, "cannot be said"]
    assert (up.opposite, down.opposite, none.opposite) == (False, True, False)
    assert none.note == "Not told from chance here."
    mechanisms, retrieval = _mechanisms(gaps)
    (same,) = mechanism_claims(mechanisms.assign(heuristic="op1 = 0 mod 2"), retrieval, 0)
    assert same.verdict == "cannot be said"
    assert same.numbers.startswith("1 rule(s)")
    assert list(mechanism_claims(None, None, 0)) == []
