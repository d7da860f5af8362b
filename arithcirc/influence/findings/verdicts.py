"""Which of the five findings hold here? Rules stated before looking, judged by the tables, whatever comes out.

    1 correlation   same task: mean r of pairs with its interval above the range of documents in random order, and
                    p < LEVEL (p alone says that these queries share documents, not that queries of the task do);
                    beyond kinds: the same with documents in random order within their kind; more than between
                    reasoning and factual queries, and than between queries and their controls: intervals apart
    2 magnitude     reasoning lower: cumulative influence per nat over the top SHARE of the positive documents,
                    Welch's t on logarithms, p < LEVEL; less volatile: its sd, Brown and Forsythe's test; steeper:
                    Welch's t on slopes
    3 answers       facts answered right: found in the top k more often than at random ranks, p < LEVEL; seldom for
                    reasoning: less often than for facts, Fisher's exact test, one-sided; documents that state the
                    fact rank first: AUC above 0.5 with its interval, p < LEVEL; better than the gradient dot product
                    and BM25: paired interval above 0
    4 kinds         a kind's lift at the top above 1 with its interval, and p < LEVEL; reasoning more than factual:
                    intervals apart
    5 sources       sources with lift above 1 at p < LEVEL / (number of sources); the same at the bottom; reasoning
                    and factual queries differ: a source whose intervals are apart, with such a p on either side

Verdicts are "holds", "does not hold" and "cannot be said" (fewer than FEW queries on a side, or the corpus names no
kinds or sources, or states no answers). Intervals are 95% over resampled queries; intervals apart is stricter than a
test of the difference. Not holding is no proof of absence: the numbers stand beside it. Scores are ekfac_normed, the
paper's, and in 2 and in the comparison with the dot product plain ekfac.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from scipy.stats import fisher_exact, levene

from arithcirc.influence.findings.magnitude import welch
from arithcirc.influence.findings.ranking import main_depth

LEVEL, FEW, SHARE = 0.01, 5, 0.01
HOLDS, FAILS, UNKNOWN = "holds", "does not hold", "cannot be said"
RANKED, PLAIN = "ekfac_normed", "ekfac"
COLUMNS = ("finding", "claim", "verdict", "numbers", "base_rate", "note")


@dataclass(frozen=True)
class Verdict:
    """One claim of one finding: what was measured, what chance gives, and a remark for the reader."""

    finding: int
    claim: str
    verdict: str
    numbers: str
    base_rate: str = ""
    note: str = ""


def verdicts(tables: Mapping[str, pd.DataFrame], documents: int) -> pd.DataFrame:
    """Table `findings`: one row per claim, with COLUMNS. `documents`: the size of the corpus."""
    found = [
        *_correlation(tables["correlation_groups"]),
        *_magnitude(tables["magnitude"], tables["power_law_groups"]),
        *_answers(tables["answer_groups"]),
        *_retrieval(tables["retrieval_groups"], tables["retrieval_pairs"], tables["retrieval_said"]),
        *_kinds(tables["kinds"], main_depth(documents)),
        *_sources(tables["sources"], main_depth(documents)),
    ]
    return pd.DataFrame([asdict(one) for one in found], columns=list(COLUMNS))


def _judge(holds: bool) -> str:
    return HOLDS if holds else FAILS


def _row(table: pd.DataFrame, **where: object) -> pd.Series | None:
    """The only row of a table with these values; None where there is none."""
    for name, value in where.items():
        table = table[table[name] == value]
    return table.iloc[0] if len(table) else None


def _ends(row: pd.Series, low: str = "low", high: str = "high") -> str:
    return f"[{row[low]:.2f}, {row[high]:.2f}]" if np.isfinite(row[low]) else "[no interval]"


def _p(p: float) -> str:
    return "p unknown" if not np.isfinite(p) else "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}"


def _correlation(groups: pd.DataFrame) -> Iterator[Verdict]:
    rows = {
        name: _row(groups, method=RANKED, relation=name)
        for name in ("same task", "across reasoning", "reasoning-factual", "factual", "task-control")
    }
    same = rows["same task"]
    first = "Queries of one reasoning task draw on the same documents"
    if same is None or same["n"] < FEW or not np.isfinite(same["low"]):
        yield Verdict(1, first, UNKNOWN, f"{0 if same is None else same['n']} pairs of queries of one task")
        return
    numbers = f"mean r {same['mean']:.3f} {_ends(same)} over {same['n']} pairs of the same task"
    others = [f"{name} {row['mean']:.3f}" for name, row in rows.items() if row is not None and name != "same task"]
    for claim, prefix, order in (
        (first, "", "documents in random order"),
        ("and more than the kinds of documents explain", "kind_", "documents in random order within their kind"),
    ):
        p, low, high = (same[f"{prefix}{name}"] for name in ("p", "null_low", "null_high"))
        yield Verdict(
            1, claim, _judge(bool(same["low"] > high and p < LEVEL)), numbers,
            f"{same[prefix + 'null_mean']:.3f} [{low:.3f}, {high:.3f}] with {order}, {_p(p)}",
            f"For comparison: {', '.join(others)}." if others and not prefix else "",
        )  # fmt: skip
    for claim, other in (
        ("and more than reasoning and factual queries share", "reasoning-factual"),
        ("and more than a task and its control share", "task-control"),
    ):
        row = rows[other]
        if row is None or not np.isfinite(row["low"]):
            yield Verdict(1, claim, UNKNOWN, f"no pairs {other}")
        else:
            yield Verdict(
                1, claim, _judge(bool(same["low"] > row["high"])),
                f"mean r {same['mean']:.3f} {_ends(same)} against {row['mean']:.3f} {_ends(row)} over {row['n']} pairs",
                "the intervals must be apart",
            )  # fmt: skip


def _magnitude(magnitude: pd.DataFrame, slopes: pd.DataFrame) -> Iterator[Verdict]:
    mine = magnitude[(magnitude["method"] == PLAIN) & (magnitude["end"] == "positive") & (magnitude["share"] == SHARE)]
    a, b = (mine[mine["group"] == group]["cumulative"] for group in ("reasoning", "factual"))
    lower = "Reasoning queries rely less on single documents than factual ones"
    volatile = "and the amount varies less from query to query"
    note = f"Sum over the top {SHARE:.0%} of the positive documents, in nats per nat of query."
    if min(len(a), len(b)) < FEW:
        counts = f"{len(a)} reasoning and {len(b)} factual queries, {FEW} of each are needed"
        yield Verdict(2, lower, UNKNOWN, counts)
        yield Verdict(2, volatile, UNKNOWN, counts)
    else:
        p = welch(np.log(a), np.log(b))
        yield Verdict(
            2, lower, _judge(bool(np.log(a).mean() < np.log(b).mean() and p < LEVEL)),
            f"cumulative influence per nat {a.mean():.3g} for {len(a)} reasoning, {b.mean():.3g} for {len(b)} factual "
            f"queries (medians {a.median():.3g}, {b.median():.3g})",
            f"a ratio of 1 where groups do not differ, {_p(p)}", note,
        )  # fmt: skip
        p = float(levene(a, b, center="median").pvalue) if a.std() > 0 or b.std() > 0 else float("nan")
        yield Verdict(
            2, volatile, _judge(bool(a.std() < b.std() and p < LEVEL)),
            f"sd over queries {a.std():.3g} against {b.std():.3g}",
            f"equal sds where groups do not differ, {_p(p)}", note,
        )  # fmt: skip
    claim = "The influence of reasoning queries falls more steeply with rank"
    x, y = (_row(slopes, method=RANKED, correct="all", group=group) for group in ("reasoning", "factual"))
    if x is None or y is None or min(x["n"], y["n"]) < FEW:
        yield Verdict(2, claim, UNKNOWN, f"fewer than {FEW} queries of a group have a slope")
        return
    yield Verdict(
        2, claim, _judge(bool(x["mean"] < y["mean"] and x["p"] < LEVEL)),
        f"slope {x['mean']:.3f} (sd {x['sd']:.3f}, n {x['n']}) against {y['mean']:.3f} (sd {y['sd']:.3f}, n {y['n']})",
        f"equal slopes where groups do not differ, {_p(x['p'])}",
        "The paper found slightly steeper slopes for reasoning and calls it possible noise.",
    )  # fmt: skip


def _answers(groups: pd.DataFrame) -> Iterator[Verdict]:
    first = "Answers of facts answered right stand in their top documents"
    second = "For reasoning queries the answer is seldom there, although the corpus holds it"
    by = "holds" if (groups["by"] == "holds").any() else "text"
    fact, task = (
        _row(groups, group=group, correct="right", method=RANKED, by=by) for group in ("factual", "reasoning")
    )
    if fact is None or fact["possible"] < FEW:
        yield Verdict(3, first, UNKNOWN, _possible(fact, "factual"))
    else:
        yield Verdict(
            3, first, _judge(bool(fact["rate"] > fact["base_rate"] and fact["p"] < LEVEL)), _found(fact, "factual"),
            f"{fact['base_rate']:.0%} at random ranks, {_p(fact['p'])}", _by(by),
        )  # fmt: skip
    if fact is None or task is None or min(fact["possible"], task["possible"]) < FEW:
        yield Verdict(3, second, UNKNOWN, _possible(task, "reasoning"))
        return
    counts = np.array([[row["found_all"], row["possible"] - row["found_all"]] for row in (task, fact)], dtype=int)
    p = float(fisher_exact(counts, alternative="less").pvalue)
    yield Verdict(
        3, second, _judge(p < LEVEL),
        f"{_found(task, 'reasoning')} (single steps: {task['steps_found']} of {task['steps']}); "
        f"{_found(fact, 'factual')}",
        f"{task['base_rate']:.0%} at random ranks, {_p(task['p'])}; fewer than for facts with {_p(p)}", _by(by),
    )  # fmt: skip


def _possible(row: pd.Series | None, group: str) -> str:
    if row is None:
        return f"no {group} query answered right has an answer to look for"
    return f"the corpus states the answer of only {row['possible']} of {row['queries']} {group} queries answered right"


def _found(row: pd.Series, group: str) -> str:
    return f"found in the top {row['k']} for {row['found_all']} of {row['queries']} {group} queries {_ends(row)}"


def _by(by: str) -> str:
    said = "the documents' own lists" if by == "holds" else "exact matching in the texts"
    return f"What a document states is known from {said}."


def _retrieval(groups: pd.DataFrame, pairs: pd.DataFrame, said: pd.DataFrame) -> Iterator[Verdict]:
    claim = "Documents that state a fact answered right rank above the others"
    right, wrong = (_row(groups, group="factual", correct=side, method=RANKED) for side in ("right", "wrong"))
    if right is None or right["n"] < FEW:
        yield Verdict(3, claim, UNKNOWN, f"{0 if right is None else right['n']} such facts, {FEW} are needed")
    else:
        apart = "" if wrong is None else f"; answered wrong: AUC {wrong['auc']:.2f} {_ends(wrong)} over {wrong['n']}"
        yield Verdict(
            3, claim, _judge(bool(right["low"] > 0.5 and right["p"] < LEVEL)),
            f"AUC {right['auc']:.2f} {_ends(right)} over {right['n']} facts{apart}",
            f"0.5 at random ranks, {_p(right['p'])}", _said(said),
        )  # fmt: skip
    for against, word in (("dot", "the gradient dot product"), ("bm25", "BM25")):
        row = _row(pairs, group="factual", correct="right", method=PLAIN, against=against)
        claim = f"and EK-FAC finds them better than {word}"
        if row is None or row["n"] < FEW:
            yield Verdict(3, claim, UNKNOWN, f"fewer than {FEW} facts answered right have both scores")
        else:
            yield Verdict(
                3, claim, _judge(bool(row["low"] > 0)),
                f"AUC higher by {row['difference']:.2f} {_ends(row)} over {row['n']} facts",
                f"0 where they do not differ, {_p(row['p'])}",
            )  # fmt: skip


def _said(said: pd.DataFrame) -> str:
    areas = said[said["method"] == RANKED]["auc"]
    if areas.empty:
        return "No document states a wrong answer that was given."
    return f"Documents that state the wrong answer given, of {len(areas)} facts: AUC {areas.mean():.2f}."


def _kinds(kinds: pd.DataFrame, k: int) -> Iterator[Verdict]:
    wanted = (("reasoning", "procedure"), ("reasoning", "code"), ("factual", "fact"))
    words = {"procedure": "Worked procedures", "code": "Procedures written as code", "fact": "Facts"}
    for group, kind in wanted:
        claim = f"{words[kind]} are over-represented at the top of {group} queries"
        row = _row(kinds, group=group, correct="all", method=RANKED, end="top", k=k, kind=kind)
        if row is None or row["n"] < FEW:
            yield Verdict(4, claim, UNKNOWN, f"no documents of kind {kind!r}, or fewer than {FEW} {group} queries")
        else:
            yield Verdict(4, claim, _judge(_lifted(row, LEVEL)), _lift(row), _chance(row), _depth(k, int(row["n"])))
    claim = "Procedures matter more to reasoning than to factual queries"
    a, b = (
        _row(kinds, group=group, correct="all", method=RANKED, end="top", k=k, kind="procedure")
        for group in ("reasoning", "factual")
    )
    if a is None or b is None or min(a["n"], b["n"]) < FEW:
        yield Verdict(4, claim, UNKNOWN, f"no procedures, or fewer than {FEW} queries of a group")
        return
    yield Verdict(
        4, claim, _judge(bool(a["low"] > b["high"])),
        f"lift {a['lift']:.2f} {_ends(a)} against {b['lift']:.2f} {_ends(b)}", "the intervals must be apart",
        _depth(k, int(a["n"])),
    )  # fmt: skip


def _lifted(row: pd.Series, level: float) -> bool:
    return bool(row["lift"] > 1 and row["low"] > 1 and row["p"] < level)


def _lift(row: pd.Series) -> str:
    return (
        f"lift {row['lift']:.2f} {_ends(row)} ({row['share']:.0%} of the top, {row['corpus_share']:.0%} of the corpus)"
    )


def _chance(row: pd.Series) -> str:
    return f"1 {_ends(row, 'null_low', 'null_high')} with labels in random order, {_p(row['p'])}"


def _depth(k: int, queries: int) -> str:
    return f"Top {k} documents of {queries} queries."


def _sources(sources: pd.DataFrame, k: int) -> Iterator[Verdict]:
    mine = sources[(sources["method"] == RANKED) & (sources["correct"] == "all") & (sources["k"] == k)]
    count = mine["source"].nunique()
    above: dict[tuple[str, str], set[str]] = {}
    for group in ("reasoning", "factual"):
        for end in ("top", "bottom"):
            claim = f"Some sources are over-represented at the {end} of {group} queries"
            rows = mine[(mine["group"] == group) & (mine["end"] == end)].sort_values("lift", ascending=False)
            if count < 2 or rows.empty or rows["n"].iloc[0] < FEW:
                yield Verdict(5, claim, UNKNOWN, f"fewer than two sources, or fewer than {FEW} {group} queries")
                continue
            found = [row for _, row in rows.iterrows() if _lifted(row, LEVEL / count)]
            above[group, end] = {str(row["source"]) for row in found}
            said = "; ".join(f"{row['source']} lift {row['lift']:.2f} {_ends(row)}" for row in found)
            best = rows.iloc[0]
            yield Verdict(
                5, claim, _judge(bool(found)),
                said or f"the highest is {best['source']}, lift {best['lift']:.2f} {_ends(best)}, {_p(best['p'])}",
                f"1 with labels in random order; each source must reach p < {LEVEL / count:.2g}",
                _depth(k, int(best["n"])),
            )  # fmt: skip
    claim = "Reasoning and factual queries draw on different sources"
    if len(above) < 4:
        yield Verdict(5, claim, UNKNOWN, f"fewer than two sources, or fewer than {FEW} queries of a group")
        return
    tops = mine[mine["end"] == "top"].set_index(["group", "source"])
    a, b = tops.loc["reasoning"], tops.loc["factual"]
    apart = [
        s
        for s in a.index
        if (a["low"][s] > b["high"][s] or b["low"][s] > a["high"][s]) and min(a["p"][s], b["p"][s]) < LEVEL / count
    ]
    yield Verdict(
        5, claim, _judge(bool(apart)),
        "; ".join(f"{s} lift {a['lift'][s]:.2f} against {b['lift'][s]:.2f}" for s in apart)
        or "no source's intervals are apart",
        f"intervals must be apart, and one of the two lifts reach p < {LEVEL / count:.2g}",
    )  # fmt: skip
