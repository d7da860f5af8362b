"""Agreement of runs against closed forms: a run with itself, reversed, scaled, with two ranks swapped."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toys import RANKED

from arithcirc.arithmetic.pairs import read_pairs
from arithcirc.cli.main import run
from arithcirc.errors import RequestError
from arithcirc.measure.agreement import compare_runs, expected_jaccard, pairs_of
from arithcirc.store import RunFolder

HEADS, LAYERS, WIDTH = 4, 2, 10
LABELS = [  # layer, neuron, heuristic, score, base rate, matched, significant
    (1, 0, "op1 = 3", 0.9, 0.1, True, True),
    (1, 0, "op2 = 1 mod 2", 0.8, 0.5, True, False),
    (1, 1, "op1 = 3", 0.7, 0.1, True, True),
    (1, 2, "result in 0..9", 0.4, 0.2, False, False),
]


def effects(seed: int = 0) -> pd.DataFrame:
    """Heads and MLPs at two positions; only rows of change `any` are to be read."""
    rng, rows = np.random.default_rng(seed), []
    for operator, change, position, layer in itertools.product("+*", ("any", "op1"), ("op1", "equals"), range(LAYERS)):
        for head in (*range(HEADS), None):
            kind, size = ("mlp", 5.0) if head is None else ("head", 1.0)
            rows.append((operator, change, position, layer, kind, head, "logit_diff", size * rng.normal()))
    names = ["operator", "change", "position", "layer", "kind", "head", "metric", "mean"]
    return pd.DataFrame(rows, columns=names).astype({"head": "Int64"})


def neurons(seed: int = 1, important: int = 3) -> pd.DataFrame:
    """Layer 0 has no effect but rounding; in layer 1 the strongest are important."""
    rng, frames = np.random.default_rng(seed), []
    for operator, layer in itertools.product("+*", range(LAYERS)):
        size = 1e-7 if layer == 0 else 1.0
        table = pd.DataFrame({"neuron": range(WIDTH), "effect": size * rng.normal(size=WIDTH), "std": 0.0})
        rank = (-table["effect"]).rank()
        frames.append(table.assign(operator=operator, layer=layer, important=(rank <= important) & (layer == 1)))
    return pd.concat(frames, ignore_index=True).assign(method="exact", metric="logit_diff")


def circuit(table: pd.DataFrame, size: int = 3) -> pd.DataFrame:
    """The heads with the largest effect over positions."""
    mine = table[(table["kind"] == "head") & (table["change"] == "any")]
    best = mine.loc[mine.groupby(["operator", "layer", "head"])["mean"].idxmax()]
    rank = best.groupby("operator")["mean"].rank(ascending=False)
    return best[["operator", "kind", "layer", "head", "position"]].assign(in_circuit=rank <= size)


def prompts() -> pd.DataFrame:
    rows = []
    for operator, name, i in itertools.product("+*", ("discover", "evaluate"), range(3)):
        text = f"{i + 1}{operator}{2 if name == 'discover' else 3}="
        rows.append((operator, text, 9, "1+1=", 2, name, "any", 0))
    names = ["operator", "prompt", "answer", "counterfactual", "counterfactual_answer", "set", "change", "seed"]
    return pd.DataFrame(rows, columns=names)


def labels() -> pd.DataFrame:
    names = ["layer", "neuron", "heuristic", "score", "base_rate", "matched", "significant"]
    return pd.concat([pd.DataFrame(LABELS, columns=names).assign(operator=s) for s in "+*"], ignore_index=True)


def answers() -> pd.DataFrame:
    table = pd.DataFrame({"op1": [1, 2, 3, 4], "op2": [1, 1, 1, 1], "given": [2, 3, 4, 5], "correct": True})
    return pd.concat([table.assign(operator=s) for s in "+*"], ignore_index=True)


def make(path: Path, **changed: pd.DataFrame) -> RunFolder:
    config = {
        "model": {"name": "m", "dtype": "float32", "weights_sha256": "a"},
        "prompts": {"operands": "0..9", "template": "t", "prefix": ""},
        "circuit": {"n_heads": None, "mlps": "all", "rank_by": "logit_diff", "target": 0.9},
        "neurons": {"top": None, "first_layer": None},
        "heuristics": {"preset": "paper", "threshold": 0.6, "q": 0.01, "neurons": None},
    }
    facts = {"model": {"n_layers": LAYERS, "n_heads": HEADS, "d_mlp": WIDTH}}
    made = RunFolder(path, {"config": config, "facts": facts})
    given = {"effects": effects(), "neurons": neurons(), "prompts": prompts(), "heuristics": labels()} | changed
    for name, table in ({"circuit": circuit(given["effects"]), "answers": answers()} | given).items():
        made.write_table(name, table)
    return made


@pytest.fixture
def a(tmp_path: Path) -> RunFolder:
    return make(tmp_path / "a")


# -- what agrees ------------------------------------------------------------------------------------------------------


def test_a_run_agrees_with_itself(a: RunFolder) -> None:
    found = compare_runs(a, a)
    assert list(found) == ["agreement", "sizes", "sets", "labels", "answers"]
    rows = found["agreement"]
    moving = rows[rows["layer"] != 0]
    assert moving["spearman"].to_numpy() == pytest.approx(np.ones(len(moving)))
    assert (moving[["median", "q99"]] == 0).all(axis=None)
    chosen = rows[rows["overlap"].notna()]
    assert (chosen["overlap"] == 1).all()
    assert (chosen["expected"] == chosen["k"] / chosen["n"]).all()
    assert set(chosen["kind"]) == {"head", "neuron"}, "of MLPs all are kept: nothing is chosen"
    assert (found["sizes"]["difference"] == 0).all()
    assert (found["sets"]["jaccard"] == 1).all()
    assert (found["labels"][["jaccard", "best"]] == 1).all(axis=None)
    assert (found["answers"][["accuracy_a", "accuracy_b", "same"]] == 1).all(axis=None)


def test_effects_of_rounding_have_no_correlation(a: RunFolder, tmp_path: Path) -> None:
    other = neurons()
    other.loc[other["layer"] == 0, "effect"] *= -1
    rows = compare_runs(a, make(tmp_path / "b", neurons=other))["agreement"]
    silent = rows["layer"] == 0
    assert rows.loc[silent, ["spearman", "overlap", "median", "q99"]].isna().all(axis=None)
    assert silent.sum() == 4


def test_reversed_effects_anticorrelate(a: RunFolder, tmp_path: Path) -> None:
    other = effects().assign(mean=lambda t: -t["mean"])
    rows = compare_runs(a, make(tmp_path / "b", effects=other))["agreement"]
    at = rows[rows["kind"].isin(["head", "mlp"]) & (rows["position"] != "any")]
    assert at["spearman"].to_numpy() == pytest.approx(-np.ones(len(at)))


def test_scaled_effects_keep_ranks_and_show_their_difference(a: RunFolder, tmp_path: Path) -> None:
    other = effects().assign(mean=lambda t: 1.5 * t["mean"])
    found = compare_runs(a, make(tmp_path / "b", effects=other))
    row = found["agreement"].query("operator == '*' and kind == 'head' and position == 'equals'").iloc[0]
    mine = effects().query("operator == '*' and kind == 'head' and position == 'equals' and change == 'any'")["mean"]
    assert row["spearman"] == pytest.approx(1)
    assert row["spread"] == pytest.approx(mine.std(ddof=0))
    assert row["median"] == pytest.approx(0.5 * mine.abs().median() / mine.std(ddof=0))
    assert row["q99"] == pytest.approx(0.5 * mine.abs().quantile(0.99) / mine.std(ddof=0))
    sizes = found["sizes"].query("kind != 'neuron'")
    assert (sizes["difference"] <= 0.5 * sizes["low"] * 10**0.5).all()
    assert (sizes["difference"] >= 0.5 * sizes["low"]).all()
    assert (sizes["same_sign"] == 1).all()
    assert sizes["n"].sum() == 2 * 2 * LAYERS * (HEADS + 1)


def test_a_swap_across_the_cut_costs_one_of_k(a: RunFolder, tmp_path: Path) -> None:
    """The third and the fourth neuron of `+` change places: 2 of the top 3 are left, 2 of 4 in either."""
    other = neurons()
    order = other[(other["operator"] == "+") & (other["layer"] == 1)]["effect"].sort_values(ascending=False).index
    columns = ["effect", "important"]
    other.loc[order[[2, 3]], columns] = other.loc[order[[3, 2]], columns].to_numpy()
    found = compare_runs(a, make(tmp_path / "b", neurons=other))
    rows = found["agreement"].query("kind == 'neuron' and layer == 1")
    for score in ("mean", "mean + sd"):
        mine = rows[rows["score"] == score].set_index("operator")
        assert mine["overlap"].to_dict() == pytest.approx({"+": 2 / 3, "*": 1})
        assert mine.loc["+", "spearman"] == pytest.approx(1 - 6 * 2 / (WIDTH * (WIDTH**2 - 1)))
    sets = found["sets"].query("kind == 'neuron'").set_index("operator")
    assert sets["jaccard"].to_dict() == pytest.approx({"+": 2 / 4, "*": 1})


def test_the_standard_deviation_counts_where_it_ranks(a: RunFolder, tmp_path: Path) -> None:
    other = neurons().assign(std=lambda t: -2 * t["effect"])
    rows = compare_runs(a, make(tmp_path / "b", neurons=other))["agreement"].query("layer == 1")
    by_score = rows.groupby("score")["spearman"].mean()
    assert by_score.to_dict() == pytest.approx({"mean": 1, "mean + sd": -1})


def test_labels_in_numbers(a: RunFolder, tmp_path: Path) -> None:
    """b loses one of three matched pairs of neuron 0, so its best label changes; neuron 2 is matched in b only."""
    other = labels()
    other = other[~((other["neuron"] == 0) & (other["heuristic"] == "op1 = 3"))]
    other.loc[other["neuron"] == 2, "matched"] = True
    rows = compare_runs(a, make(tmp_path / "b", heuristics=other))["labels"].query("operator == '+'")
    row = rows.set_index("labels").loc["matched"]
    assert row[["neurons", "labelled_a", "labelled_b", "pairs_a", "pairs_b"]].tolist() == [3, 2, 3, 3, 3]
    assert row["jaccard"] == pytest.approx(2 / 4)
    assert row["best"] == pytest.approx(1 / 2)
    dealt = (2 * 1 + 1 * 1) / 3
    assert row["expected"] == pytest.approx(dealt / (6 - dealt))


def test_answers_in_numbers(a: RunFolder, tmp_path: Path) -> None:
    other = answers()
    other.loc[0, ["given", "correct"]] = [7, False]
    rows = compare_runs(a, make(tmp_path / "b", answers=other))["answers"].set_index("operator")
    assert rows["accuracy_b"].to_dict() == {"+": 0.75, "*": 1}
    assert rows["same"].to_dict() == {"+": 0.75, "*": 1}


def test_expected_jaccard_is_the_mean_over_all_draws() -> None:
    fixed = [set(range(3)), {10, 11}]
    drawn = [
        set(one) | set(two)
        for one in itertools.combinations(range(5), 2)
        for two in itertools.combinations(range(10, 14), 3)
    ]
    ours = fixed[0] | fixed[1]
    mean = np.mean([len(ours & theirs) / len(ours | theirs) for theirs in drawn])
    assert expected_jaccard([(5, 3, 2), (4, 2, 3)]) == pytest.approx(mean)
    assert np.isnan(expected_jaccard([(5, 0, 0)]))


# -- what may be compared ---------------------------------------------------------------------------------------------


def test_other_weights_and_types_may_be_compared(a: RunFolder, tmp_path: Path) -> None:
    other = make(tmp_path / "b")
    other.manifest["config"]["model"] |= {"dtype": "bfloat16", "weights_sha256": "b", "revision": "step1"}
    assert compare_runs(a, other)


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("heuristics", "threshold", 0.5),
        ("heuristics", "preset", "reference"),
        ("circuit", "rank_by", "E"),
        ("neurons", "top", 7),
        ("prompts", "operands", "0..99"),
    ],
)
def test_other_choices_are_refused_by_name(
    a: RunFolder, tmp_path: Path, section: str, field: str, value: object
) -> None:
    other = make(tmp_path / "b")
    other.manifest["config"][section][field] = value
    with pytest.raises(RequestError, match=rf"differ in {section}\.{field}, .* against {value!r}"):
        compare_runs(a, other)


def test_a_stage_that_one_run_lacks_is_no_difference(a: RunFolder, tmp_path: Path) -> None:
    other = make(tmp_path / "b")
    del other.manifest["config"]["heuristics"]
    (other.path / "heuristics.parquet").unlink()
    assert list(compare_runs(a, other)) == ["agreement", "sizes", "sets", "answers"]


@pytest.mark.parametrize("field", ["n_layers", "n_heads", "d_mlp"])
def test_other_sizes_are_refused_by_name(a: RunFolder, tmp_path: Path, field: str) -> None:
    other = make(tmp_path / "b")
    other.manifest["facts"]["model"][field] = 99
    with pytest.raises(RequestError, match=rf"differ in model\.{field}, \d+ against 99"):
        compare_runs(a, other)


def test_other_operators_and_prompts_are_refused(a: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"differ in operators, '\*\+' against '\+'"):
        compare_runs(a, make(tmp_path / "b", prompts=prompts().query("operator == '+'")))
    other = prompts()
    other.loc[0, "counterfactual"] = "2+2="
    with pytest.raises(RequestError, match=r"share 11 of 12 and 12 pairs of prompts: .*--pairs pairs\.csv"):
        compare_runs(a, make(tmp_path / "c", prompts=other))


def test_an_unknown_metric_is_refused(a: RunFolder) -> None:
    with pytest.raises(RequestError, match="no effects of metric 'kl' to compare: use one of logit_diff"):
        compare_runs(a, a, metric="kl")


# -- commands ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_pairs_of_a_run_make_a_comparable_run(
    toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a user would: prompts of a run as a file, two precisions on them, compare; the sampled run is refused."""
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> tuple[int, str]:
        capsys.readouterr()
        code = run([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out + said.err

    options = [*RANKED[:2], *RANKED[4:]]
    assert call("prompts", toy_folder, *RANKED[:4], "--operators", "+")[0] == 0
    sampled = tmp_path / "runs" / "toy" / "main"
    assert call("pairs", sampled, "--out", "pairs.csv") == (0, "4 pairs: pairs.csv\n")
    pairs, sets = read_pairs(tmp_path / "pairs.csv")
    assert pairs.frame().assign(set=sets).equals(pairs_of(RunFolder.open(sampled)))
    for dtype in ("float32", "bfloat16"):
        assert call("neurons", toy_folder, *options, "--pairs", "pairs.csv", "--dtype", dtype, "--out", dtype)[0] == 0
    one, two = (tmp_path / dtype / "toy" / "main" for dtype in ("float32", "bfloat16"))
    code, said = call("compare", one, two, "--out", "tables")
    assert code == 0, said
    assert "4 tables: tables" in said
    assert sorted(p.name for p in (tmp_path / "tables").iterdir()) == [
        "agreement.csv", "answers.csv", "sets.csv", "sizes.csv"
    ]  # fmt: skip
    rows = pd.read_csv(tmp_path / "tables" / "agreement.csv").query("kind == 'neuron' and layer == 2")
    assert rows["spearman"].between(0.8, 1, inclusive="left").all()
    code, said = call("compare", sampled, one)
    assert code == 2
    assert said.startswith("arithcirc: the runs share 4 of 14 and 4 pairs of prompts: write those of one with")


def test_comparing_needs_no_torch() -> None:
    code = "import arithcirc.measure.agreement, arithcirc.cli.main, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
