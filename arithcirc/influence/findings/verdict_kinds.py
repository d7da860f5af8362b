"""Claims of findings 4 and 5 (kinds and sources at the top), and of 6: do documents that obey a rule build it?

Rules as `verdicts` states them. A source may stand out only because of the kinds it holds; so it must also stand out
when source labels change places within kinds. Where none of those that stand out shares its kinds with another source,
that cannot be told.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon

from arithcirc.influence.findings.chance import mean_interval
from arithcirc.influence.findings.judging import (
    FEW,
    LEVEL,
    RANKED,
    UNKNOWN,
    Verdict,
    differs,
    ends,
    judge,
    p_words,
    row_of,
)

RULES = "Documents that obey a mechanism's rule rank above others in its influence"
BEYOND = "more than the kinds of their documents explain"


def kind_claims(kinds: pd.DataFrame, k: int) -> Iterator[Verdict]:
    """Finding 4, from table `kinds` at depth k."""
    wanted = (("reasoning", "procedure"), ("reasoning", "code"), ("factual", "fact"))
    words = {"procedure": "Worked procedures", "code": "Procedures written as code", "fact": "Facts"}
    for group, kind in wanted:
        claim = f"{words[kind]} are over-represented at the top of {group} queries"
        row = row_of(kinds, group=group, correct="all", method=RANKED, end="top", k=k, kind=kind)
        if row is None or row["n"] < FEW:
            yield Verdict(4, claim, UNKNOWN, f"no documents of kind {kind!r}, or fewer than {FEW} {group} queries")
        else:
            yield Verdict(
                4, claim, judge(_lifted(row, LEVEL)), _lift(row), _chance(row), _depth(k, int(row["n"])),
                p=float(row["p"]), groups=(group,), opposite=bool(row["high"] < 1 and row["p"] < LEVEL),
            )  # fmt: skip
    claim = "Procedures matter more to reasoning than to factual queries"
    a, b = (
        row_of(kinds, group=group, correct="all", method=RANKED, end="top", k=k, kind="procedure")
        for group in ("reasoning", "factual")
    )
    if a is None or b is None or min(a["n"], b["n"]) < FEW:
        yield Verdict(4, claim, UNKNOWN, f"no procedures, or fewer than {FEW} queries of a group")
        return
    yield Verdict(
        4, claim, judge(a["low"] > b["high"]), f"lift {a['lift']:.2f} {ends(a)} against {b['lift']:.2f} {ends(b)}",
        "the intervals must be apart", _depth(k, int(a["n"])), groups=("reasoning", "factual"),
        opposite=bool(a["high"] < b["low"]),
    )  # fmt: skip


def source_claims(sources: pd.DataFrame, k: int) -> Iterator[Verdict]:
    """Finding 5, from table `sources` at depth k."""
    mine = sources[(sources["method"] == RANKED) & (sources["correct"] == "all") & (sources["k"] == k)]
    count = mine["source"].nunique()
    judged = 0
    for group in ("reasoning", "factual"):
        for end in ("top", "bottom"):
            claim = f"Some sources are over-represented at the {end} of {group} queries, {BEYOND}"
            rows = mine[(mine["group"] == group) & (mine["end"] == end)].sort_values("lift", ascending=False)
            if count < 2 or rows.empty or rows["n"].iloc[0] < FEW:
                yield Verdict(5, claim, UNKNOWN, f"fewer than two sources, or fewer than {FEW} {group} queries")
                continue
            judged += 1
            yield _one_end(claim, group, rows, count, k)
    claim = f"Reasoning and factual queries draw on different sources, {BEYOND}"
    if judged < 4:
        yield Verdict(5, claim, UNKNOWN, f"fewer than two sources, or fewer than {FEW} queries of a group")
        return
    yield _different(claim, mine[mine["end"] == "top"].set_index(["group", "source"]), LEVEL / count)


def _one_end(claim: str, group: str, rows: pd.DataFrame, count: int, k: int) -> Verdict:
    """Do some of `count` sources stand out, and beyond the kinds they hold?"""
    level, best = LEVEL / count, rows.iloc[0]
    lifted = [row for _, row in rows.iterrows() if _lifted(row, level)]
    told = [row for row in lifted if np.isfinite(row["kind_p"])]
    found = [row for row in told if row["lift"] > row["kind_null_mean"] and row["kind_p"] < level]
    verdict, note = judge(found), _depth(k, int(best["n"]))
    if lifted and not told:
        verdict, note = UNKNOWN, f"Sources hold one kind only: kinds and sources cannot be told apart. {note}"
    said = "; ".join(
        f"{row['source']} lift {row['lift']:.2f} {ends(row)} ({_within(row)})" for row in (found or lifted)
    )
    if lifted and told and not found:
        said = f"no more than their kinds explain: {said}"
    ps = [max(row["p"], row["kind_p"]) for row in found or told] or [best["p"]]
    return Verdict(
        5, claim, verdict,
        said or f"the highest is {best['source']}, lift {best['lift']:.2f} {ends(best)}, {p_words(best['p'])}",
        f"1 with labels in random order; each source must reach p < {level:.2g}, and so among documents of its kinds",
        note, p=float(min(1.0, count * min(ps))), groups=(group,),
    )  # fmt: skip


def _within(row: pd.Series) -> str:
    if not np.isfinite(row["kind_p"]):
        return "alone in its kinds"
    return f"{row['kind_null_mean']:.2f} by its kinds alone, {p_words(row['kind_p'])}"


def _different(claim: str, tops: pd.DataFrame, level: float) -> Verdict:
    a, b = tops.loc["reasoning"], tops.loc["factual"]
    apart = [
        s
        for s in a.index
        if (a["low"][s] > b["high"][s] or b["low"][s] > a["high"][s]) and min(a["p"][s], b["p"][s]) < level
    ]
    told = [s for s in apart if np.isfinite([a["kind_p"][s], b["kind_p"][s]]).any()]
    found = [s for s in told if np.nanmin([a["kind_p"][s], b["kind_p"][s]]) < level]
    verdict = UNKNOWN if apart and not told else judge(found)
    words = "; ".join(f"{s} lift {a['lift'][s]:.2f} against {b['lift'][s]:.2f}" for s in found or apart)
    if apart and told and not found:
        words = f"no more than their kinds explain: {words}"
    return Verdict(
        5, claim, verdict, words or "no source's intervals are apart",
        f"intervals must be apart, and one of the two lifts reach p < {level:.2g}, within kinds too",
        "Sources hold one kind only: kinds and sources cannot be told apart." if verdict == UNKNOWN else "",
        groups=("reasoning", "factual"),
    )  # fmt: skip


def mechanism_claims(mechanisms: pd.DataFrame | None, retrieval: pd.DataFrame | None, seed: int) -> Iterator[Verdict]:
    """Finding 6, from tables `mechanisms` and `mechanism_retrieval`; nothing where no mechanism was scored.

    Each mechanism's area is compared with that of its documents for the other mechanisms. Mechanisms with the same
    rule share their documents and count as one (their mean).
    """
    if mechanisms is None or retrieval is None or not len(retrieval):
        return
    mine = retrieval[retrieval["method"] == RANKED].merge(mechanisms[["query", "operator", "heuristic"]], on="query")
    mine = mine.assign(gap=mine["auc"] - mine["auc_others"]).dropna(subset=["gap"])
    rules = mine.groupby(["operator", "heuristic"], sort=False)[["auc", "auc_others", "gap"]].mean()
    gaps = rules["gap"].to_numpy()
    if len(gaps) < FEW:
        yield Verdict(6, RULES, UNKNOWN, f"{len(gaps)} rule(s) with documents to tell apart, {FEW} are needed")
        return
    mean, low, high = mean_interval(gaps, seed)
    p = float(wilcoxon(gaps, method="auto").pvalue) if (gaps != 0).any() else 1.0
    higher = int((mine["gap"] > 0).sum())
    yield Verdict(
        6, RULES, judge(low > 0 and p < LEVEL),
        f"AUC {rules['auc'].mean():.2f} against {rules['auc_others'].mean():.2f} for other mechanisms: "
        f"{differs(mean, low, high)} over {len(gaps)} rules ({higher} of {len(mine)} mechanisms higher)",
        f"0 where documents of the rule rank as for any other mechanism, {p_words(p)}",
        "" if low > 0 or high < 0 else "Not told from chance here.", p=p, opposite=bool(high < 0 and p < LEVEL),
    )  # fmt: skip


def _lifted(row: pd.Series, level: float) -> bool:
    return bool(row["lift"] > 1 and row["low"] > 1 and row["p"] < level)


def _lift(row: pd.Series) -> str:
    return (
        f"lift {row['lift']:.2f} {ends(row)} ({row['share']:.0%} of the top, {row['corpus_share']:.0%} of the corpus)"
    )


def _chance(row: pd.Series) -> str:
    return f"1 {ends(row, 'null_low', 'null_high')} with labels in random order, {p_words(row['p'])}"


def _depth(k: int, queries: int) -> str:
    return f"Top {k} documents of {queries} queries."
