"""Made-up tables of the neuron stages: probes, neurons, heads, labels, ablations, failures.

The closed forms (`probe_accuracy`, `neuron_effect`, `cut_accuracy`, `arm_accuracy`) say which number belongs where.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.stats import binomtest

LAYERS, WIDTH, LIMIT, SIDE = 6, 40, 60, 60
OPERATORS = ("+", "-", "*", "/")
PLACES = ("op1", "operator", "op2", "equals")
FIRST = {"+": 3, "-": 3, "*": 4, "/": 2}
TOP = 8
IN_CIRCUIT = {"+": [(2, 1), (2, 3)], "-": [(2, 1), (2, 3), (3, 0)], "*": [(2, 1), (3, 0)], "/": [(2, 3)]}
LABELS = (
    ("result in 20..30", "range", "result", "direct", 0.1),
    ("op2 = 8 mod 10", "modulo", "op2", "indirect", 0.1),
    ("op1 matches .5.", "pattern", "op1", "indirect", 0.17),
    ("op1 = 42", "value", "op1", "indirect", 0.016),
    ("both in 0..10", "both_range", "operands", "indirect", 0.03),
    ("both = 3 mod 5", "both_modulo", "operands", "indirect", 0.04),
    ("op1 = op2", "identical", "operands", "indirect", 0.016),
    ("result in {1, 2, 3}", "multi_value", "result", "direct", 0.2),
)
ABLATIONS = ("zero", "mean", "resample")


def wilson(correct: int, n: int) -> tuple[float, float]:
    """95% Wilson interval."""
    found = binomtest(correct, n).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def probe_accuracy(operator: str, layer: int, position: str) -> float:
    """Low everywhere but at `=` from the first heuristics layer on."""
    if position != "equals":
        return 0.02 + 0.01 * layer
    return min(0.98, 0.1 + 0.02 * layer + (0.7 if layer >= FIRST[operator] else 0.0))


def neuron_effect(operator: str, layer: int, neuron: int, method: str = "exact") -> float:
    """Neuron 0 is the strongest of its layer; the estimate is a little off; the last neurons are negative."""
    shift = OPERATORS.index(operator)
    size = 0.4 * (layer + 1) * np.exp(-(((neuron + 3 * shift) % WIDTH) / 6.0)) - 0.01 * (neuron % 7 == 6)
    return float(size + (0.03 * np.sin(7.0 * neuron) if method == "estimate" else 0.0))


def probes() -> pd.DataFrame:
    rows = []
    for operator in OPERATORS:
        for layer in range(LAYERS):
            for position in PLACES:
                accuracy, n = probe_accuracy(operator, layer, position), 400
                low, high = wilson(round(accuracy * n), n)
                base = 0.5 if operator == "/" else 0.02
                rows.append((operator, layer, position, accuracy, low, high, n, 61, base, 20 + layer))
    names = ["operator", "layer", "position", "accuracy", "low", "high", "n", "classes", "base_rate", "epochs"]
    return pd.DataFrame(rows, columns=names)


def first_layers() -> pd.DataFrame:
    rows = [
        (o, FIRST[o], probe_accuracy(o, FIRST[o], "equals"), probe_accuracy(o, 5, "equals"), 0.02, "half of the best")
        for o in OPERATORS
    ]
    return pd.DataFrame(rows, columns=["operator", "layer", "accuracy", "best", "base_rate", "rule"])


def neurons() -> pd.DataFrame:
    rows = []
    for operator in OPERATORS:
        for layer in range(LAYERS):
            exact = [neuron_effect(operator, layer, n) for n in range(WIDTH)]
            best = set(np.argsort(-np.array(exact), kind="stable")[:TOP].tolist())
            for method, metric in (("exact", "logit_diff"), ("exact", "E"), ("estimate", "logit_diff")):
                values = np.array([neuron_effect(operator, layer, n, method) for n in range(WIDTH)])
                rank = np.empty(WIDTH, dtype=int)
                rank[np.argsort(-values, kind="stable")] = np.arange(1, WIDTH + 1)
                for n in range(WIDTH):
                    important = n in best and layer >= FIRST[operator]
                    rows.append((operator, layer, n, method, metric, values[n], 0.02, int(rank[n]), important))
    names = ["operator", "layer", "neuron", "method", "metric", "effect", "std", "rank", "important"]
    return pd.DataFrame(rows, columns=names)


def neuron_agreement() -> pd.DataFrame:
    rows = [
        (o, layer, 0.95 - 0.05 * layer - 0.02 * i, TOP, 0.9 - 0.04 * layer, TOP / WIDTH, WIDTH, 0.9)
        for i, o in enumerate(OPERATORS)
        for layer in range(LAYERS)
    ]
    names = ["operator", "layer", "spearman", "top", "overlap", "expected", "n", "pearson"]
    return pd.DataFrame(rows, columns=names)


def kept_faithfulness(operator: str, ranking: str, top: int) -> float:
    """F rises with the neurons kept, fastest for the exact ranking; all neurons give .97."""
    rate = {"exact": 0.3, "estimate": 0.2, "random": 0.05}[ranking] / (1 + OPERATORS.index(operator))
    return float(0.97 * (1 - np.exp(-rate * top)) / (1 - np.exp(-rate * WIDTH)))


def neuron_faithfulness() -> pd.DataFrame:
    rows = []
    for operator in OPERATORS:
        for heads in ("circuit", "all"):
            for prompts in ("discover", "evaluate"):
                for top in (0, 1, 2, 4, 8, 16, 24, WIDTH):
                    for ranking in ("exact", "estimate", "random"):
                        for draw in range(5 if ranking == "random" else 1):
                            f = kept_faithfulness(operator, ranking, top) + 0.02 * (draw - 2) * (ranking == "random")
                            chosen = ranking == "exact" and top == TOP
                            rows.append(
                                (
                                    operator,
                                    prompts,
                                    ranking,
                                    heads,
                                    top,
                                    draw,
                                    98,
                                    2,
                                    f,
                                    0.01,
                                    f - 0.01,
                                    max(f, 0.0),
                                    max(f, 0.0),
                                    4 * (1 - f),
                                    chosen,
                                )
                            )
    names = [
        "operator", "set", "ranking", "heads", "top", "draw", "n", "undefined", "faithfulness", "faithfulness_sem",
        "faithfulness_ratio", "probability", "accuracy", "kl", "chosen",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=names)


def neuron_overlap() -> pd.DataFrame:
    rows = [
        (one, two, TOP, 6, 26, 0.2 + 0.1 * abs(i - j), 0.11)
        for i, one in enumerate(OPERATORS)
        for j, two in enumerate(OPERATORS)
        if i < j
    ]
    return pd.DataFrame(rows, columns=["operator", "other", "top", "shared", "union", "iou", "expected"])


def heads() -> pd.DataFrame:
    rows = []
    for operator in OPERATORS:
        for layer in range(LAYERS):
            for head in range(4):
                for i, place in enumerate(("bos", *PLACES)):
                    weight = 0.6 if i == (layer + head) % 5 else 0.1
                    inside = (layer, head) in IN_CIRCUIT[operator]
                    rows.append((operator, layer, head, inside, place, weight, 0.05, 100))
    names = ["operator", "layer", "head", "in_circuit", "position", "attention", "attention_std", "n"]
    return pd.DataFrame(rows, columns=names)


def head_copies() -> pd.DataFrame:
    rows = []
    for layer, head in ((2, 1), (2, 3), (3, 0)):
        for operator in OPERATORS:
            for part in ("op1", "op2", "result"):
                gain = 0.9 if (part, head) in (("op1", 1), ("op2", 3)) else 0.03
                inside = (layer, head) in IN_CIRCUIT[operator]
                rows.append((operator, layer, head, inside, part, 0.05 + gain, 0.05, 500))
        rows.append(("all", layer, head, True, "operator", 0.99 if head == 0 else 0.3, 0.25, 500))
    names = ["operator", "layer", "head", "in_circuit", "what", "accuracy", "base_rate", "n"]
    return pd.DataFrame(rows, columns=names)


def cut_accuracy(cut: str) -> float:
    """Only cutting `=` from op1 hurts."""
    return {"none": 1.0, "= <- op1": 0.04}.get(cut, 0.93)


def head_cuts() -> pd.DataFrame:
    rows = []
    for operator in OPERATORS:
        for cut in ("none", "op2 <- op1", "op2 <- operator", "op2 <- op1, operator", "operator <- op1", "= <- op1"):
            low, high = wilson(round(100 * cut_accuracy(cut)), 100)
            drop = 6 * (1 - cut_accuracy(cut))
            rows.append((operator, cut, cut_accuracy(cut), low, high, drop, 0.9 * drop, 100))
    return pd.DataFrame(rows, columns=["operator", "cut", "accuracy", "low", "high", "logit_diff", "kl", "n"])


def number_neurons() -> pd.DataFrame:
    rows = [
        (n, 2.0 + 0.01 * n, n, "op1 = 3 mod 5" if n % 5 == 3 else None, 0.7, 0.2, 0.001, 0.004) for n in range(WIDTH)
    ]
    return pd.DataFrame(rows, columns=["neuron", "largest", "at", "heuristic", "score", "base_rate", "p", "q"])


def number_responses() -> dict[str, np.ndarray]:
    """Neuron n peaks at number n."""
    number, neuron = np.meshgrid(np.arange(LIMIT + 1), np.arange(WIDTH), indexing="ij")
    return {"response": (2.0 * np.exp(-(((number - neuron) / 4.0) ** 2)) - 0.1).astype(np.float32)}


def heuristics() -> pd.DataFrame:
    """Important neuron i of every layer has label i; the last two neurons of each layer have none."""
    rows = []
    table = neurons()
    important = table[table["important"] & (table["method"] == "exact") & (table["metric"] == "logit_diff")]
    for operator, layer, neuron, rank in important[["operator", "layer", "neuron", "rank"]].itertuples(index=False):
        for j, (name, family, value, kind, base) in enumerate(LABELS):
            own = j == rank - 1
            score = 0.9 if own and rank <= 5 else 0.65 if own and rank == 6 else min(0.95 * base + 0.1, 0.5)
            q = 1e-6 if own and rank <= 5 else 0.3
            matched = score >= 0.6
            end = "bottom" if j == 3 else "top"
            rows.append(
                (
                    operator,
                    layer,
                    neuron,
                    name,
                    family,
                    value,
                    kind,
                    end,
                    300,
                    score,
                    base,
                    q / 5,
                    q / 3,
                    q / 4,
                    q,
                    matched,
                    matched and q < 0.01,
                )
            )
    names = [
        "operator", "layer", "neuron", "heuristic", "family", "value", "kind", "end", "size", "score", "base_rate",
        "p_hypergeometric", "p", "p_shift", "q", "matched", "significant",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=names)


def excluded_heuristics() -> pd.DataFrame:
    rows = [("/", "result in 0..2", "range", 9000, 0.93, "93% of its prompts have the answer 0")]
    return pd.DataFrame(rows, columns=["operator", "heuristic", "family", "size", "zero_share", "reason"])


def label_summary() -> pd.DataFrame:
    table = heuristics()
    rows = []
    for operator in OPERATORS:
        part = table[table["operator"] == operator]
        count = {k: len(part[part[k]][["layer", "neuron"]].drop_duplicates()) for k in ("matched", "significant")}
        total = len(part[["layer", "neuron"]].drop_duplicates())
        strong = part[part["significant"] & ~part["family"].isin(["value", "multi_value"])]
        count["structured"] = len(strong[["layer", "neuron"]].drop_duplicates())
        unlabelled = total - count["significant"]
        pairs = int(part["significant"].sum())
        rows.append((operator, total, *count.values(), unlabelled, len(LABELS), len(part), pairs))
    names = [
        "operator",
        "important",
        "matched",
        "significant",
        "structured",
        "unlabelled",
        "heuristics",
        "tests",
        "pairs",
    ]
    return pd.DataFrame(rows, columns=names)


def unlabelled() -> pd.DataFrame:
    table = heuristics()
    labelled = table[table["significant"]].set_index(["operator", "layer", "neuron"]).index
    rest = table[~table.set_index(["operator", "layer", "neuron"]).index.isin(labelled)]
    best = rest.sort_values("score", ascending=False).groupby(["operator", "layer", "neuron"], as_index=False).first()
    return best.rename(columns={"heuristic": "best"})[
        ["operator", "layer", "neuron", "best", "score", "base_rate", "q", "matched"]
    ]


def gallery() -> pd.DataFrame:
    rows = [
        (o, 4, i, name, family, kind, "top", 0.9, base, 1e-6, f"{OPERATORS.index(o)}_{i}")
        for o in OPERATORS
        for i, (name, family, _, kind, base) in enumerate(LABELS)
    ]
    names = ["operator", "layer", "neuron", "heuristic", "family", "kind", "end", "score", "base_rate", "q", "key"]
    return pd.DataFrame(rows, columns=names)


def answers() -> pd.DataFrame:
    rows = [(o, a, 1, a, a if a % 7 else -1, bool(a % 7)) for o in OPERATORS for a in range(20)]
    return pd.DataFrame(rows, columns=["operator", "op1", "op2", "answer", "given", "correct"])


def gallery_maps() -> dict[str, np.ndarray]:
    """Each map is what its name says, plus noise; prompts without an answer from 0 to twice LIMIT are NaN."""
    rng = np.random.default_rng(5)
    a, b = np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")
    maps = {}
    for i, operator in enumerate(OPERATORS):
        r = {"+": a + b, "-": a - b, "*": a * b, "/": np.where(b > 0, a // np.maximum(b, 1), -1)}[operator]
        held = [
            (r >= 20) & (r < 30), b % 10 == 8, a // 10 % 10 == 5, a == 42, (a < 10) & (b < 10),
            (a % 5 == 3) & (b % 5 == 3), a == b, (r >= 1) & (r <= 3),
        ]  # fmt: skip
        for j, where in enumerate(held):
            values = 2.0 * where + 0.3 * rng.standard_normal(where.shape) - 0.1
            maps[f"{i}_{j}"] = np.where((r < 0) | (r > 2 * LIMIT), np.nan, values).astype(np.float16)
    return maps


def arm_accuracy(operator: str, arm: str, where: str, ablation: str) -> float:
    """Targeted ablation hurts inside; for division it hurts both sides alike, so the prediction fails there."""
    hurt = {"zero": 0.5, "mean": 0.4, "resample": 0.3}[ablation]
    if arm != "targeted":
        return 0.95
    return 1 - (hurt if where == "in" or operator == "/" else 0.1)


def knockouts_by_heuristic() -> pd.DataFrame:
    rows = []
    for operator in OPERATORS:
        for j, (name, family, *_) in enumerate(LABELS):
            for ablation in ABLATIONS:
                for arm in ("targeted", "random"):
                    for where in ("in", "out"):
                        share = arm_accuracy(operator, arm, where, ablation) - 0.01 * j
                        correct = round(100 * share)
                        share = correct / 100
                        low, high = wilson(correct, 100)
                        p = 0.001 * (j + 1) if arm == "targeted" else np.nan
                        rows.append(
                            (
                                operator,
                                name,
                                family,
                                ablation,
                                arm,
                                where,
                                12,
                                100,
                                correct,
                                correct / 100,
                                low,
                                high,
                                p,
                            )
                        )
    names = [
        "operator", "heuristic", "family", "ablation", "arm", "where", "neurons", "n", "correct", "accuracy", "low",
        "high", "p",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=names)


def knockouts_by_prompt() -> pd.DataFrame:
    rows = []
    for i, operator in enumerate(OPERATORS):
        for ablation in ABLATIONS:
            for arm, rate in (("targeted", 0.03), ("random", 0.004), ("not_applying", 0.002)):
                for k in (5, 10, 15, 20, 25, 50, 75, 100):
                    correct = round(50 * float(np.exp(-rate * k / (1 + 0.5 * i))))
                    low, high = wilson(correct, 50)
                    p = np.nan if arm == "targeted" else 0.001
                    rows.append((operator, ablation, arm, k, 1.7 * k, 50, correct, correct / 50, low, high, 0.5, p))
    names = [
        "operator", "ablation", "arm", "per_layer", "neurons", "n", "correct", "accuracy", "low", "high", "probability",
        "p",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=names)


def bag_of_heuristics() -> pd.DataFrame:
    rows = []
    untested = (np.nan, np.nan, False, "not tested: no correct prompt to knock out")
    for operator in OPERATORS:
        holds = operator != "/"
        where = ".55 inside, .86 outside" if holds else ".46 inside, .47 outside"
        rows += [
            (
                operator,
                "in_vs_out",
                0.31 if holds else 0.01,
                1e-4,
                holds,
                f"mean accuracy {where} (means of 8 heuristics)",
            ),
            (operator, "beyond_random", 0.3 if holds else -0.02, 1e-4, holds, "the gap is .31 against .01"),
            (operator, "targeted_vs_random", 0.42, 1e-5, True, "accuracy is .48 against .90 (50 prompts)"),
            (operator, "targeted_vs_not_applying", *untested)
            if operator == "*"
            else (operator, "targeted_vs_not_applying", 0.43, 1e-5, True, "accuracy is .48 against .91 (50 prompts)"),
        ]
    return pd.DataFrame(rows, columns=["operator", "prediction", "statistic", "p", "holds", "detail"])


def failures() -> pd.DataFrame:
    rng = np.random.default_rng(2)
    rows = []
    for operator in OPERATORS:
        for i in range(60):
            correct = i < 50
            if not correct and operator == "+":
                continue
            rows.append(
                (
                    operator,
                    f"{i + 60}{operator}{i + 1}=",
                    i,
                    i if correct else i + 1,
                    correct,
                    int(rng.integers(20, 60)),
                    float(rng.normal(9 if correct else 5, 2)),
                )
            )
    names = ["operator", "prompt", "answer", "given", "correct", "neurons", "contribution"]
    return pd.DataFrame(rows, columns=names)


def failure_tests() -> pd.DataFrame:
    rows = []
    for operator in OPERATORS:
        for measure in ("neurons", "contribution"):
            if operator == "+":
                rows.append((operator, measure, 50, 0, 40.0, np.nan, np.nan, np.nan, "no incorrect prompts"))
            else:
                p = 0.62 if measure == "neurons" else 2e-7
                rows.append((operator, measure, 50, 10, 40.0, 38.0 if measure == "neurons" else 5.1, 100.0, p, ""))
    names = [
        "operator", "measure", "n_correct", "n_incorrect", "median_correct", "median_incorrect", "u", "p", "note",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=names)


TABLES: dict[str, Callable[[], pd.DataFrame]] = {
    f.__name__: f
    for f in (
        probes, first_layers, neurons, neuron_agreement, neuron_faithfulness, neuron_overlap, heads, head_copies,
        head_cuts, number_neurons, heuristics, excluded_heuristics, label_summary, unlabelled, gallery, answers,
        knockouts_by_heuristic, knockouts_by_prompt, bag_of_heuristics, failures, failure_tests,
    )
}  # fmt: skip
STAGES = {
    "probe": ("probes", "first_layers"),
    "neurons": ("neurons", "neuron_agreement", "neuron_faithfulness", "neuron_overlap"),
    "heads": ("heads", "head_copies", "head_cuts"),
    "heuristics": (
        "heuristics",
        "excluded_heuristics",
        "label_summary",
        "unlabelled",
        "gallery",
        "answers",
        "number_neurons",
    ),
    "knockout": ("knockouts_by_heuristic", "knockouts_by_prompt", "bag_of_heuristics"),
    "failures": ("failures", "failure_tests"),
}
ARRAYS: dict[str, tuple[str, Callable[[], dict[str, np.ndarray]]]] = {
    "number_neurons": ("number_responses", number_responses),
    "gallery": ("gallery", gallery_maps),
}
