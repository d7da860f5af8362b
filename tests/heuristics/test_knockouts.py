"""Ablations by heuristic and by prompt, on a model in which it is known which neuron implements which heuristic."""

import numpy as np
import pandas as pd
import planted
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arithcirc.arithmetic.operators import ADD, DIV, OperandRange, legal_prompts
from arithcirc.arithmetic.reading import read_prompt
from arithcirc.arithmetic.tokens import PromptEncoder, prompt_encoder
from arithcirc.components import Neuron
from arithcirc.errors import PromptError, RequestError
from arithcirc.heuristics import by_heuristic, by_prompt
from arithcirc.heuristics.arms import Replacements, replacements
from arithcirc.heuristics.by_heuristic import as_many_others, in_and_out, knock_out_by_heuristic
from arithcirc.heuristics.by_prompt import PER_LAYER, knock_out_by_prompt, prompt_sets
from arithcirc.heuristics.knockouts import knock_out_heuristic, knock_out_prompt
from arithcirc.heuristics.labelled import Labelled
from arithcirc.heuristics.labels import label_neurons
from arithcirc.heuristics.names import parse_heuristic
from arithcirc.heuristics.paired import accuracy_columns, mcnemar
from arithcirc.heuristics.verdict import bag_of_heuristics
from arithcirc.measure.maps import activation_maps, value_logits
from arithcirc.measure.means import mean_activations
from arithcirc.models.bridge import BridgedModel
from arithcirc.models.suffix import Patch, SuffixEngine

OPERANDS = OperandRange.parse(planted.OPERANDS)
PROMPTS = legal_prompts(ADD, OPERANDS, planted.LIMIT)
RIGHT = np.ones(len(PROMPTS), dtype=bool)
"""The planted model answers everything correctly."""
IN_ONE = {name: parse_heuristic(name).mask(PROMPTS) for name in planted.PLANTED}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> BridgedModel:
    return planted.load_adder(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def encoder(model: BridgedModel) -> PromptEncoder:
    return prompt_encoder(model.tokenizer, vocab_size=model.info.d_vocab)


@pytest.fixture(scope="module")
def labels() -> Labelled:
    return Labelled.of(planted.label_table(), planted.important_table(), PROMPTS, RIGHT)


@pytest.fixture(scope="module")
def replaced(model: BridgedModel, encoder: PromptEncoder) -> Replacements:
    means = mean_activations(model, encoder, (ADD,), OPERANDS, batch_size=512)
    return replacements(model, encoder, PROMPTS, means, np.random.default_rng(0))


def swept(model: BridgedModel, encoder: PromptEncoder, labels: Labelled, replaced: Replacements, **options: object):
    """The sweep by heuristic, always with the same draws."""
    return knock_out_by_heuristic(model, encoder, labels, replaced, np.random.default_rng(1), **options)


# -- the planted neurons ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", planted.PLANTED)
def test_a_planted_neuron_is_found_by_exact_patching(model: BridgedModel, encoder: PromptEncoder, name: str) -> None:
    neither = ~np.any(list(IN_ONE.values()), axis=0)
    only = IN_ONE[name] & (sum(IN_ONE.values()) == 1)
    clean, other = PROMPTS[only][:40], PROMPTS[neither][:40]
    tokens, source = (torch.from_numpy(encoder.encode(p)) for p in (clean, other))
    answers = torch.from_numpy(encoder.answers(clean.answer))
    neurons = [Neuron(layer, n) for layer in range(2) for n in range(planted.N_NEURONS)]
    engine = SuffixEngine(model, tokens, parts={"post"})
    right = engine.run(
        [Patch(n, 4) for n in neurons],
        model.activations(source, parts={"post"}),
        lambda logits, at: (logits.argmax(-1) == answers[at])[..., None].float(),
        batch_size=10_000,
    ).mean((1, 2))
    assert neurons[int(right.argmin())] == planted.PLANTED[name]
    assert sorted(right.tolist())[:2] == [0.0, 1.0]


@pytest.mark.parametrize("name", planted.PLANTED)
def test_a_planted_neuron_is_labelled_and_then_breaks_its_prompts(
    model: BridgedModel, encoder: PromptEncoder, name: str
) -> None:
    neurons = [Neuron(1, n) for n in range(planted.N_NEURONS)]
    maps = activation_maps(model, encoder, PROMPTS, neurons, batch_size=512)
    values, rng = value_logits(model, encoder, neurons), np.random.default_rng(0)
    table = label_neurons(maps, values, ADD, OPERANDS, preset_name="reference", rng=rng).table
    mine = table[(table["neuron"] == planted.PLANTED[name].index) & table["matched"]].set_index("heuristic")
    assert (mine.loc[name, "score"], mine.loc[name, "end"]) == (1, "top")
    assert mine["score"].idxmax() == name
    assert mine.loc[name, "p"] < 1e-3
    labels = Labelled.of(table[table["matched"]], planted.important_table(), PROMPTS, maps.correct)
    case = knock_out_heuristic(model, encoder, labels, name, rng, n=300)
    assert planted.PLANTED[name].index in case.neurons[1]
    assert (case.inside.accuracy, case.outside.accuracy) == (0, 1)


def test_without_its_neuron_a_heuristic_loses_exactly_its_prompts(
    model: BridgedModel, encoder: PromptEncoder, labels: Labelled, replaced: Replacements
) -> None:
    told: list[int] = []
    table = swept(model, encoder, labels, replaced, n=2000, progress=told.append).set_index("heuristic")
    assert sum(told) == by_heuristic.planned_rows(labels, 2000)
    zero = table[table["ablation"] == "zero"]
    for name, inside in IN_ONE.items():
        mine = zero.loc[name].set_index(["arm", "where"])
        assert mine.loc[("targeted", "in"), ["n", "correct"]].tolist() == [inside.sum(), 0]
        assert mine.loc[("targeted", "out"), ["n", "correct"]].tolist() == [(~inside).sum()] * 2
        assert (mine.loc["random", "accuracy"] == 1).all()
        assert mine.loc[("targeted", "in"), "p"] < 1e-20
        assert mine.loc[("targeted", "out"), "p"] == 1
    decoys = zero.drop(index=list(planted.PLANTED))
    assert set(decoys.index) == {"op2 = 3 mod 5", "result in 20..30", "op1 = op2"}
    assert (decoys["accuracy"] == 1).all()


def test_mean_and_resample_also_break_the_planted_heuristics(
    model: BridgedModel, encoder: PromptEncoder, labels: Labelled, replaced: Replacements
) -> None:
    table = swept(model, encoder, labels, replaced, n=60)
    mine = table[(table["heuristic"] == "op2 = 8 mod 10") & (table["where"] == "in")].set_index("ablation")
    assert mine.loc["mean", "accuracy"] == 0
    assert 0 < mine.loc["resample", "accuracy"] < 0.4  # a tenth of the donors have the flag up themselves
    assert mine.loc[["mean", "resample"], "p"].isna().all()


def test_batches_do_not_matter(
    model: BridgedModel, encoder: PromptEncoder, labels: Labelled, replaced: Replacements
) -> None:
    whole = swept(model, encoder, labels, replaced, n=12)
    pd.testing.assert_frame_equal(swept(model, encoder, labels, replaced, n=12, batch_size=50), whole)
    assert list(whole.columns) == list(by_heuristic.COLUMNS)


def test_a_prompt_fails_without_the_neurons_of_its_own_heuristics_only(
    model: BridgedModel, encoder: PromptEncoder, labels: Labelled, replaced: Replacements
) -> None:
    chosen = np.random.default_rng(2).permutation(len(PROMPTS))[:40]
    told: list[int] = []
    table = knock_out_by_prompt(
        model, encoder, labels, replaced, chosen, np.random.default_rng(3), progress=told.append
    )
    assert sum(told) == by_prompt.planned_rows(len(chosen))
    assert list(table.columns) == list(by_prompt.COLUMNS)
    spared = sum(~mask[chosen] for mask in IN_ONE.values()) == len(IN_ONE)
    zero = table[table["ablation"] == "zero"].set_index("arm")
    assert (zero.loc["targeted", "correct"] == spared.sum()).all()
    assert (zero.loc[["random", "not_applying"], "accuracy"] == 1).all()
    assert (zero.loc["random", "neurons"].to_numpy() == zero.loc["targeted", "neurons"].to_numpy()).all()
    assert (zero.loc["targeted", "probability"] < zero.loc["random", "probability"].to_numpy()).all()
    assert (zero.loc["random", "p"] < 1e-3).all()
    assert zero.loc["targeted", "p"].isna().all()


# -- labels -----------------------------------------------------------------------------------------------------------


def test_names_of_the_same_prompts_are_one_heuristic(labels: Labelled) -> None:
    h = labels.index("op1 matches .1.")  # with operands up to 30, what op1 in 10..20 says
    assert labels.names[h] == "op1 in 10..20"
    assert labels.neurons[labels.carried[:, h]].tolist() == [[1, 3], [1, 4], [1, 37]]
    assert "op1 matches .1." not in labels.names


def test_best_scores_are_over_the_heuristics_that_hold(labels: Labelled) -> None:
    table = planted.label_table()
    for p in (5, 333, 345, 900):
        one = PROMPTS[np.array([p])]
        expected = dict.fromkeys(map(tuple, labels.neurons.tolist()), 0.0)
        for row in table.itertuples():
            if parse_heuristic(row.heuristic).mask(one)[0]:
                expected[row.layer, row.neuron] = max(expected[row.layer, row.neuron], row.score)
        np.testing.assert_allclose(labels.best(np.array([p]))[0], list(expected.values()))


def test_labels_of_no_legal_prompt_and_no_labels_at_all_are_allowed() -> None:
    table = planted.label_table().head(1).assign(heuristic="op1 = 250")
    empty = Labelled.of(table, planted.important_table(), PROMPTS, RIGHT)
    assert empty.names == ()
    assert by_heuristic.planned_rows(empty, 10) == 0
    assert (empty.best(np.array([0, 1])) == 0).all()
    assert len(Labelled.of(table[:0], planted.important_table()[:0], PROMPTS, RIGHT).neurons) == 0


# -- sets and prompts -------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_others_are_as_many_per_layer_and_never_chosen(seed: int) -> None:
    rng = np.random.default_rng(seed)
    layers = np.sort(rng.integers(4, size=50))
    chosen = rng.random(50) < rng.random()
    taken = as_many_others(layers, chosen, rng)
    assert not (taken & chosen).any()
    for layer in range(4):
        n, free = chosen[layers == layer].sum(), (~chosen[layers == layer]).sum()
        assert taken[layers == layer].sum() == min(n, free)


def test_sets_of_a_prompt_are_those_of_the_definition() -> None:
    rng = np.random.default_rng(4)
    neurons = np.array([(layer, n) for layer in (1, 3) for n in range(120)])
    score = np.where(rng.random((240, 9)) < 0.1, rng.choice([0.6, 0.7, 0.8], (240, 9)), 0)
    masks = rng.random((9, len(PROMPTS))) < 0.3
    names = tuple(map(str, range(9)))
    labels = Labelled(PROMPTS, RIGHT, names, names, masks, neurons, score)
    for p in range(5):
        best = labels.best(np.array([p]))[0]
        sets = iter(prompt_sets(labels, best, rng))
        for n in PER_LAYER:
            targeted, random, foreign, few = ({tuple(m) for m in next(sets).tolist()} for _ in range(4))
            for layer in (1, 3):
                rows = [(best[i], tuple(m)) for i, m in enumerate(neurons.tolist()) if m[0] == layer]
                expected = [m for b, m in sorted(rows, key=lambda r: (-r[0], r[1])) if b > 0][:n]
                assert {m for m in targeted if m[0] == layer} == set(expected)
                free = sum(1 for _, m in rows if m not in targeted)
                assert sum(1 for m in random if m[0] == layer) == min(len(expected), free)
                none = [m for b, m in rows if b == 0 and score[neurons.tolist().index(list(m))].any()]
                assert sum(1 for m in foreign if m[0] == layer) == min(len(expected), len(none))
                assert {m for m in foreign if m[0] == layer} <= set(none)
                as_few = sum(1 for m in foreign if m[0] == layer)
                assert {m for m in few if m[0] == layer} == set(expected[:as_few])
            assert not random & targeted


def test_prompts_inside_and_outside_are_the_first_correct_ones() -> None:
    rng = np.random.default_rng(5)
    correct, order = rng.random(len(PROMPTS)) < 0.3, rng.permutation(len(PROMPTS))
    labels = Labelled.of(planted.label_table(), planted.important_table(), PROMPTS, correct)
    total = 0
    for h, mask in enumerate(labels.masks):
        inside, outside = in_and_out(labels, h, order, 15)
        assert inside.tolist() == [p for p in order if mask[p] and correct[p]][:15]
        assert outside.tolist() == [p for p in order if not mask[p] and correct[p]][:15]
        total += len(inside) + len(outside)
    assert total * len(by_heuristic.ARMS) == by_heuristic.planned_rows(labels, 15)


def test_a_resampled_row_never_takes_its_own_prompt(replaced: Replacements) -> None:
    prompts = np.repeat(replaced.donors, 20)
    drawn = replaced.rows("resample", prompts, np.random.default_rng(0))
    assert drawn.min() >= 2
    assert (replaced.donors[drawn - 2] != prompts).all()
    assert set(replaced.rows("zero", prompts, np.random.default_rng(0))) == {0}


# -- statistics and the verdict ---------------------------------------------------------------------------------------


def test_wilson_and_mcnemar_by_hand() -> None:
    z, k, n = 1.959963984540054, 7, 10
    centre, half = (k + z**2 / 2) / (n + z**2), z / (n + z**2) * (k * (n - k) / n + z**2 / 4) ** 0.5
    found = accuracy_columns(np.arange(n) < k)
    assert (found["n"], found["correct"], found["accuracy"]) == (10, 7, 0.7)
    assert (found["low"], found["high"]) == pytest.approx((centre - half, centre + half))
    ours = np.array([True] * 8 + [False] + [True] * 5)
    theirs = np.array([False] * 8 + [True] + [True] * 5)
    assert mcnemar(ours, theirs) == pytest.approx(2 * (1 + 9) / 2**9)
    assert mcnemar(ours, ours) == 1
    assert np.isnan(mcnemar(ours[:0], ours[:0]))


def test_the_verdict_on_the_planted_model(
    model: BridgedModel, encoder: PromptEncoder, labels: Labelled, replaced: Replacements
) -> None:
    heuristic = swept(model, encoder, labels, replaced, n=20)
    chosen = np.flatnonzero(IN_ONE["op2 = 8 mod 10"])[:30]
    prompt = knock_out_by_prompt(model, encoder, labels, replaced, chosen, np.random.default_rng(0))
    verdict = bag_of_heuristics(heuristic, prompt).set_index("prediction")
    assert verdict["holds"].to_dict() == {
        "in_vs_out": False,  # two heuristics of five are no evidence, however clear they are
        "beyond_random": False,
        "targeted_vs_random": True,
        "targeted_vs_not_applying": True,
    }
    assert verdict.loc["in_vs_out", "statistic"] == pytest.approx(2 / 5)
    assert verdict.loc["targeted_vs_random", "statistic"] == 1
    assert "accuracy is 0.000" in verdict.loc["targeted_vs_random", "detail"]


def by_heuristic_table(targeted_in: list[float], random_in: list[float], n: int = 50) -> pd.DataFrame:
    rows = [
        {
            **{"heuristic": str(h), "ablation": "zero", "arm": arm, "where": where},
            **{"neurons": 7, "n": n, "accuracy": accuracy},
        }
        for arm, inside in (("targeted", targeted_in), ("random", random_in))
        for h, low in enumerate(inside)
        for where, accuracy in (("in", low), ("out", 1.0))
    ]
    return pd.DataFrame(rows)


def by_prompt_table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "ablation": "zero",
            "arm": ["targeted", "random", "not_applying", "targeted_as_few"],
            "per_layer": 25,
            "neurons": [40.0, 40.0, 12.0, 12.0],
            "n": 50,
            "accuracy": [0.9, 0.5, 1.0, 0.95],
            "p": [np.nan, 1e-5, 0.06, np.nan],
        }
    )


@pytest.mark.parametrize(
    ("targeted", "random", "holds"),
    [
        ([0.1 + 0.01 * h for h in range(30)], [0.9] * 30, [True, True]),
        ([0.1 + 0.01 * h for h in range(30)], [0.1 + 0.01 * h for h in range(30)], [True, False]),
        ([1.0] * 30, [1.0] * 30, [False, False]),
    ],
)
def test_the_verdict_says_what_the_tables_say(targeted: list[float], random: list[float], holds: list[bool]) -> None:
    verdict = bag_of_heuristics(by_heuristic_table(targeted, random), by_prompt_table())
    assert verdict["holds"].tolist() == [*holds, False, False]  # random did more harm; p = .06 is not enough
    assert verdict["detail"].str.contains(r"p = ").all()


def test_without_enough_prompts_nothing_holds() -> None:
    few = by_heuristic_table([0.0] * 9, [1.0] * 9, n=9)
    verdict = bag_of_heuristics(few, by_prompt_table().assign(n=0, p=np.nan))
    assert not verdict["holds"].any()
    assert verdict["p"].isna().all()
    assert verdict["detail"].str.startswith("not tested").all()


# -- one case ---------------------------------------------------------------------------------------------------------


def test_one_prompt_before_and_after(model: BridgedModel, encoder: PromptEncoder, labels: Labelled) -> None:
    case = knock_out_prompt(model, encoder, labels, read_prompt("12+18=", OPERANDS, planted.LIMIT))
    assert (case.prompt, case.answer) == ("12+18=", 30)
    assert {"op1 in 10..20", "op2 = 8 mod 10", "op2 = 3 mod 5"} == set(case.heuristics)
    assert case.neurons == {1: (3, 4, 5, 11, 37)}
    assert [g.token for g in case.before[:1]] == ["30"]
    assert case.before[0].probability > 0.99
    assert [g.token for g in case.after[:1]] == ["24"]
    assert len(case.after) == 5
    one = knock_out_prompt(
        model, encoder, labels, read_prompt("12+18", OPERANDS, 60), heuristic="op2 = 8 mod 10", top=1
    )
    assert (one.neurons, [g.token for g in one.after]) == ({1: (11,)}, ["27"])
    few = knock_out_prompt(model, encoder, labels, read_prompt(" 12 + 18 =", OPERANDS, 60), per_layer=2)
    assert few.neurons == {1: (11, 37)}


def test_one_heuristic_before_and_after(model: BridgedModel, encoder: PromptEncoder, labels: Labelled) -> None:
    case = knock_out_heuristic(model, encoder, labels, "OP2=8 mod 10", np.random.default_rng(1), n=30)
    assert (case.operator, case.heuristic, case.neurons) == ("+", "op2 = 8 mod 10", {1: (11,)})
    assert (case.inside.n, case.inside.accuracy, case.inside.random) == (30, 0, 1)
    assert (case.outside.n, case.outside.accuracy, case.outside.random) == (30, 1, 1)
    assert case.inside.high < 0.2
    assert len(case.examples) == 5
    for example in case.examples:
        assert example.before[0].token == str(example.answer)
        assert example.after[0].token == str(example.answer - planted.SHORT)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("12-18=", r"has the result -6: legal prompts have a whole result in 0\.\.60"),
        ("30/0=", "is divided by 0"),
        ("12+31=", r"31 in '12\+31=' is outside the operands 0\.\.30"),
        ("12 plus 3", "unknown operator 'plus'"),
        ("12+3=15", "is not understood: write two numbers and an operator"),
        ("30*3=", "has the result 90"),
    ],
)
def test_a_prompt_that_is_not_legal_is_refused(text: str, says: str) -> None:
    with pytest.raises(PromptError, match=says):
        read_prompt(text, OPERANDS, planted.LIMIT)


def test_a_prompt_of_another_operator_is_refused(model: BridgedModel, encoder: PromptEncoder, labels: Labelled) -> None:
    with pytest.raises(PromptError, match="not one legal prompt of these labels"):
        knock_out_prompt(model, encoder, labels, read_prompt("12-3=", OPERANDS, 60))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("op2 = 7 mod 10", "no neuron is labelled with 'op2 = 7 mod 10'.*the most frequent are 'op1 in 10..20'"),
        ("op2 = 250", "no legal prompt belongs to 'op2 = 250'"),
        ("op2 ends in 8", "is not understood: write"),
    ],
)
def test_a_heuristic_nobody_carries_is_refused(
    model: BridgedModel, encoder: PromptEncoder, labels: Labelled, name: str, says: str
) -> None:
    with pytest.raises(RequestError, match=says):
        knock_out_heuristic(model, encoder, labels, name, np.random.default_rng(0))


def test_division_edge_cases_have_labels_too() -> None:
    prompts = legal_prompts(DIV, OperandRange(0, 6), 60)
    table = planted.label_table().head(3).assign(heuristic=["result in {0, 1}", "result in 0..2", "op1 = 0"])
    labels = Labelled.of(table, planted.important_table(), prompts, prompts.answer > 0)
    assert labels.names == ("result in {0, 1}", "op1 = 0")
    assert labels.carried[:, 0].sum() == 2


def test_arms_of_unlike_sizes_are_not_tested() -> None:
    smaller = by_heuristic_table([0.1 + 0.01 * h for h in range(30)], [0.9] * 30)
    smaller.loc[smaller["arm"] == "random", "neurons"] = 3
    prompt = pd.concat([by_prompt_table(), by_prompt_table().assign(per_layer=10)], ignore_index=True)
    prompt.loc[(prompt["per_layer"] == 25), "p"] = np.nan
    verdict = bag_of_heuristics(smaller, prompt).set_index("prediction")
    assert verdict.loc["in_vs_out", "holds"]
    assert verdict.loc["beyond_random", "detail"].startswith("not tested: no heuristic of 30")
    assert "at most 10 per layer" in verdict.loc["targeted_vs_random", "detail"]
