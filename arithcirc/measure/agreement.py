"""Do two runs on the same prompts agree? For one model in two precisions, at two revisions, or with other weights.

agreement  per operator and kind of component: Spearman correlation of the effects, and the overlap of the top k, with
           k as many as the first run chose there (heads of its circuit, important neurons of the layer). Heads and
           MLPs are compared at each position over all layers, and by their largest effect over positions ("any"),
           which ranks heads; neurons within each layer, by their mean effect and by mean + standard deviation, which
           ranks them. `expected` is the overlap that a random ranking would have, k / n. `median` and `q99` are
           quantiles of |b - a| in units of `spread`, the standard deviation of a's effects.
sizes      |b - a| against the size of a's effect, in half decades: where `relative` reaches 1, an effect of that size
           cannot be told from the difference between the runs
sets       the chosen heads, and the important neurons: |A n B| / |A u B|, and its mean for random sets of these sizes
labels     of the neurons that both runs labelled: (neuron, heuristic) pairs in both over pairs in either; `expected`
           deals b's sets of labels to random neurons (ratio of means); `best` is the share of neurons with the same
           best label, by the score corrected for chance
answers    accuracy of both, and the share of prompts that both answer alike

The same prompts are needed: with others, effects differ for another reason. Effects that vary by less than NOTHING are
rounding in both runs: their correlations are missing (NaN), as is whatever a run has no table for. Agreement does not
say which run is right. It needs the tables only, neither weights nor torch.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats

from arithcirc.errors import RequestError
from arithcirc.store import RunFolder

NOTHING = 1e-5
"""Nats: the rounding of float32 logits."""
DECIMALS = (-5, 2)
"""Powers of ten between which effects are binned by size; larger ones join the last bin."""
PAIR_COLUMNS = ("operator", "prompt", "answer", "counterfactual", "counterfactual_answer", "set")
_CHOICES = {
    "prompts": ("operands", "template", "prefix"),
    "circuit": ("n_heads", "mlps", "rank_by", "target"),
    "neurons": ("top", "first_layer"),
    "heuristics": ("preset", "threshold", "q", "neurons"),
}
"""Fields of the configuration without which tables cannot be held against each other."""
_NEURON = ["layer", "neuron"]
_LABEL = [*_NEURON, "heuristic"]


def compare_runs(a: RunFolder, b: RunFolder, *, metric: str = "logit_diff") -> dict[str, pd.DataFrame]:
    """Every table of the header that both runs have the tables for. `a` is the reference: its choices give k.

    Raises RequestError, naming what differs, for runs of other operators, prompts, sizes or choices, for runs that
    share no table, and for a metric that was not measured.
    """
    check_comparable(a, b)
    both = {name: (a.table(name), b.table(name)) for name in sorted(set(a.tables()) & set(b.tables()))}
    found: dict[str, pd.DataFrame] = {}
    if groups := list(_groups(both, metric)):
        rows = pd.DataFrame([_agree(group) for group in groups])
        found["agreement"] = rows.astype({"layer": "Int64"})
    more = {"sizes": _sizes(groups), "sets": _sets(both), "labels": _labels(both), "answers": _answers(both)}
    found |= {name: table for name, table in more.items() if not table.empty}
    if not found:
        raise RequestError(f"{a.path} and {b.path} share no table of effects, labels or answers: analyse both further")
    return found


def pairs_of(run: RunFolder) -> pd.DataFrame:
    """The prompts of a run, each with its first random counterfactual, as a pairs file for another run."""
    table = run.table("prompts")
    first = table[(table["change"] == "any") & (table["seed"] == 0)]
    return first[list(PAIR_COLUMNS)].reset_index(drop=True)


# -- what may be compared ---------------------------------------------------------------------------------------------


def check_comparable(a: RunFolder, b: RunFolder) -> None:
    """Raise RequestError, naming the first field that differs, where numbers of the two runs do not correspond."""
    configs = (a.manifest["config"], b.manifest["config"])
    for section, names in _CHOICES.items():
        ours, theirs = (config.get(section) for config in configs)
        for name in names if ours and theirs else ():
            _same(f"{section}.{name}", ours.get(name), theirs.get(name), "analyse one of them again with the other's")
    sizes = [run.manifest.get("facts", {}).get("model", {}) for run in (a, b)]
    for name in ("n_layers", "n_heads", "d_mlp"):
        _same(f"model.{name}", sizes[0].get(name), sizes[1].get(name), "compare runs of models of one size")
    prompts = [run.table("prompts") for run in (a, b)]
    ours, theirs = ("".join(sorted(table["operator"].unique())) for table in prompts)
    _same("operators", ours, theirs, "give both the same --operators")
    keys = [*PAIR_COLUMNS, "change", "seed"]
    rows = [set(table[keys].itertuples(index=False, name=None)) for table in prompts]
    if rows[0] != rows[1]:
        shared = len(rows[0] & rows[1])
        raise RequestError(
            f"the runs share {shared} of {len(rows[0])} and {len(rows[1])} pairs of prompts: write those of one with "
            "'arithcirc pairs RUN --out pairs.csv' and make both runs with --pairs pairs.csv"
        )


def _same(field: str, ours: object, theirs: object, advice: str) -> None:
    if ours != theirs:
        raise RequestError(f"the runs differ in {field}, {ours!r} against {theirs!r}: {advice}")


# -- effects ----------------------------------------------------------------------------------------------------------

Both = dict[str, tuple[pd.DataFrame, pd.DataFrame]]


class _Group(NamedTuple):
    """Effects of one operator, kind and place in both runs; the first run chose k of them. `layer` None: all layers."""

    operator: str
    kind: str
    position: str
    layer: int | None
    score: str
    k: int
    a: Float[np.ndarray, "n"]
    b: Float[np.ndarray, "n"]


def _groups(both: Both, metric: str) -> Iterator[_Group]:
    if "effects" in both:
        a, b = (_measured(table[table["change"] == "any"], metric) for table in both["effects"])
        chosen = both["circuit"][0] if "circuit" in both else pd.DataFrame(columns=["operator", "kind", "in_circuit"])
        yield from _components(a, b, chosen[chosen["in_circuit"].astype(bool)])
    if "neurons" in both:
        yield from _neurons(*(_measured(table[table["method"] == "exact"], metric) for table in both["neurons"]))


def _measured(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    rows = table[table["metric"] == metric]
    if rows.empty:
        known = ", ".join(sorted(table["metric"].unique()))
        raise RequestError(f"no effects of metric {metric!r} to compare: use one of {known}")
    return rows


def _components(a: pd.DataFrame, b: pd.DataFrame, chosen: pd.DataFrame) -> Iterator[_Group]:
    """Heads and MLPs at each position, and by their largest effect over positions."""
    joined = a.merge(b, on=["operator", "kind", "layer", "head", "position"], suffixes=("_a", "_b"))
    for (operator, kind), rows in joined.groupby(["operator", "kind"], sort=False):
        mine = chosen[(chosen["operator"] == operator) & (chosen["kind"] == kind)]
        largest = rows.groupby(["layer", "head"], dropna=False)[["mean_a", "mean_b"]].max()
        places = [("any", len(mine), largest)]
        for position, part in rows.groupby("position", sort=False):
            places.append((str(position), int((mine["position"] == position).sum()) if len(mine) else 0, part))
        for position, k, part in places:
            values = (part[f"mean_{run}"].to_numpy(dtype=float) for run in "ab")
            yield _Group(str(operator), str(kind), position, None, "mean", k, *values)


def _neurons(a: pd.DataFrame, b: pd.DataFrame) -> Iterator[_Group]:
    """Neurons of each layer, by the mean and by what ranks them."""
    joined = a.merge(b, on=["operator", *_NEURON], suffixes=("_a", "_b"))
    for (operator, _), rows in joined.groupby(["operator", "layer"], sort=False):
        number = int(rows["layer"].iloc[0])
        mean, sd = ([rows[f"{what}_{run}"].to_numpy(dtype=float) for run in "ab"] for what in ("effect", "std"))
        k = int(rows["important_a"].sum())
        for score, (x, y) in (("mean", mean), ("mean + sd", [m + s for m, s in zip(mean, sd, strict=True)])):
            yield _Group(str(operator), "neuron", "equals", number, score, k, x, y)


def _agree(group: _Group) -> dict[str, object]:
    """One row of the table `agreement`."""
    n, k, spread = len(group.a), group.k, float(np.std(group.a))
    row = {name: getattr(group, name) for name in ("operator", "kind", "position", "layer", "score")}
    row |= {"n": n, "spearman": np.nan, "k": k, "overlap": np.nan, "expected": np.nan, "spread": spread}
    row |= {"median": np.nan, "q99": np.nan}
    if not _varies(group):
        return row
    off = np.abs(group.b - group.a) / spread
    row |= {"median": float(np.median(off)), "q99": float(np.quantile(off, 0.99))}
    row["spearman"] = float(stats.spearmanr(group.a, group.b).statistic)
    if 0 < k < n:
        tops = (set(np.argsort(-x, kind="stable")[:k].tolist()) for x in (group.a, group.b))
        row |= {"overlap": len(set.intersection(*tops)) / k, "expected": k / n}
    return row


def _varies(group: _Group) -> bool:
    """False where one side's effects are equal but for rounding, as those of the first MLP after an equal token."""
    return bool(min(np.ptp(group.a), np.ptp(group.b)) >= NOTHING)


def _sizes(groups: Sequence[_Group]) -> pd.DataFrame:
    """Table `sizes`, over all operators: every head and MLP at every position, every neuron."""
    edges = np.arange(2 * DECIMALS[0], 2 * DECIMALS[1]) / 2
    frames = []
    counted = [g for g in groups if g.score == "mean" and g.position != "any" and _varies(g)]
    for kind in dict.fromkeys(g.kind for g in counted):
        mine = [g for g in counted if g.kind == kind]
        a, b = (np.concatenate([getattr(g, run) for g in mine]) for run in "ab")
        a, b = a[np.abs(a) >= NOTHING], b[np.abs(a) >= NOTHING]
        size, off = np.abs(a), np.abs(b - a)
        at = np.clip(np.floor(2 * np.log10(size)) / 2, edges[0], edges[-1])
        rows = pd.DataFrame({"kind": kind, "low": 10.0**at, "size": size, "off": off, "sign": np.sign(a) == np.sign(b)})
        by = rows.groupby(["kind", "low"])
        found = by.agg(
            n=("off", "size"), effect=("size", "median"), difference=("off", "median"), same_sign=("sign", "mean")
        )
        frames.append(found.assign(relative=found["difference"] / found["effect"]).reset_index())
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


# -- choices ----------------------------------------------------------------------------------------------------------


def _sets(both: Both) -> pd.DataFrame:
    """Table `sets`: heads of the circuits and important neurons, per operator."""
    rows = []
    if "circuit" in both:
        heads = [t[t["kind"] == "head"] for t in both["circuit"]]
        rows += [_overlap(*part, "head", "in_circuit", ["layer", "head"], []) for part in _by_operator(*heads)]
    if "neurons" in both:
        once = [t[t["method"] == "exact"].drop_duplicates(["operator", *_NEURON]) for t in both["neurons"]]
        rows += [_overlap(*part, "neuron", "important", _NEURON, ["layer"]) for part in _by_operator(*once)]
    return pd.DataFrame(rows)


def _by_operator(a: pd.DataFrame, b: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    for operator, rows in a.groupby("operator", sort=False):
        yield str(operator), rows, b[b["operator"] == operator]


def _overlap(
    operator: str, a: pd.DataFrame, b: pd.DataFrame, kind: str, flag: str, keys: list[str], strata: list[str]
) -> dict[str, object]:
    """Two sets among the same components; random ones have as many of each stratum."""
    joined = a.merge(b, on=keys, suffixes=("_a", "_b"))
    chosen = [joined[f"{flag}_{run}"].astype(bool).to_numpy() for run in "ab"]
    parts = joined.groupby(strata).indices.values() if strata else [np.arange(len(joined))]
    counts = [(len(at), int(chosen[0][at].sum()), int(chosen[1][at].sum())) for at in parts]
    shared, union = int((chosen[0] & chosen[1]).sum()), int((chosen[0] | chosen[1]).sum())
    numbers = {"n": len(joined), "chosen_a": int(chosen[0].sum()), "chosen_b": int(chosen[1].sum()), "shared": shared}
    jaccard = shared / union if union else np.nan
    return {"operator": operator, "kind": kind} | numbers | {"jaccard": jaccard, "expected": expected_jaccard(counts)}


def expected_jaccard(strata: Iterable[tuple[int, int, int]]) -> float:
    """E |A n B| / |A u B| for random sets with a and b of n things in each stratum (n, a, b); NaN for empty sets.

    |A n B| is a sum of hypergeometric variables, whose distribution is exact here.
    """
    chances, total = np.ones(1), 0
    for n, a, b in strata:
        chances = np.convolve(chances, stats.hypergeom(n, a, b).pmf(np.arange(min(a, b) + 1)))
        total += a + b
    shared = np.arange(len(chances))
    return float((chances * shared / (total - shared)).sum()) if total else float("nan")


# -- labels and answers -----------------------------------------------------------------------------------------------


def _labels(both: Both) -> pd.DataFrame:
    """Table `labels`: matched labels and significant ones, per operator, of the neurons in both runs' tables."""
    rows = []
    for operator, a, b in _by_operator(*both["heuristics"]) if "heuristics" in both else ():
        shared = a[_NEURON].drop_duplicates().merge(b[_NEURON].drop_duplicates())
        for which in ("matched", "significant"):
            rows.append({"operator": operator, "labels": which} | _label_row(shared, a[a[which]], b[b[which]]))
    return pd.DataFrame(rows)


def _label_row(neurons: pd.DataFrame, a: pd.DataFrame, b: pd.DataFrame) -> dict[str, object]:
    ours, theirs = (neurons.merge(t).drop_duplicates(_LABEL) for t in (a, b))
    shared = len(ours[_LABEL].merge(theirs[_LABEL]))
    union, n = len(ours) + len(theirs) - shared, len(neurons)
    counts = pd.concat([t["heuristic"].value_counts() for t in (ours, theirs)], axis=1).fillna(0).to_numpy()
    by_chance = float((counts[:, 0] * counts[:, 1]).sum()) / n if n else 0.0
    best = _best(ours).merge(_best(theirs), on=_NEURON, suffixes=("_a", "_b"))
    return {
        "neurons": n,
        "labelled_a": len(ours[_NEURON].drop_duplicates()),
        "labelled_b": len(theirs[_NEURON].drop_duplicates()),
        "pairs_a": len(ours),
        "pairs_b": len(theirs),
        "jaccard": shared / union if union else np.nan,
        "expected": by_chance / (len(ours) + len(theirs) - by_chance) if union else np.nan,
        "best": float((best["heuristic_a"] == best["heuristic_b"]).mean()) if len(best) else np.nan,
    }


def _best(table: pd.DataFrame) -> pd.DataFrame:
    """Each neuron's label with the largest score beyond chance; ties by name."""
    fit = (table["score"] - table["base_rate"]) / (1 - table["base_rate"])
    ordered = table.assign(fit=fit).sort_values(["fit", "heuristic"], ascending=[False, True])
    return ordered.drop_duplicates(_NEURON)[_LABEL]


def _answers(both: Both) -> pd.DataFrame:
    """Table `answers`: over all legal prompts where both runs have them, else accuracies on the prompts tried."""
    rows = []
    if "answers" in both:
        for operator, a, b in _by_operator(*both["answers"]):
            told = a.merge(b, on=["op1", "op2"], suffixes=("_a", "_b"))
            right = {f"accuracy_{run}": float(told[f"correct_{run}"].mean()) for run in "ab"}
            same = float((told["given_a"] == told["given_b"]).mean())
            rows.append({"operator": operator, "prompts": len(told)} | right | {"same": same})
    elif "accuracy" in both:
        for operator, a, b in _by_operator(*both["accuracy"]):
            right = {f"accuracy_{run}": float(t["accuracy"].iloc[0]) for run, t in (("a", a), ("b", b))}
            rows.append({"operator": operator, "prompts": int(a["n"].iloc[0])} | right | {"same": np.nan})
    return pd.DataFrame(rows)
