"""Which findings hold here? Rules stated before looking, judged by the tables, whatever comes out.

    1 correlation   same task: mean r of pairs whose completions differ (last number and stated equations) with its
                    interval above the range of documents in random order, and p < LEVEL (p alone says that these
                    queries share documents, not that queries of the task do); beyond kinds: the same with documents in
                    random order within their kind; more than between queries of different tasks whose completions
                    differ, than between reasoning and factual queries, than between queries and their controls:
                    intervals apart
    2 magnitude     reasoning lower: cumulative influence per nat over the top SHARE of the positive documents,
                    Welch's t on logarithms, p < LEVEL; less volatile: its sd, Brown and Forsythe's test; steeper:
                    Welch's t on slopes
    3 answers       facts answered right: found in the top k more often than at random ranks, p < LEVEL; fewer for
                    reasoning: less often than for facts, Fisher's exact test, one-sided; documents that state the
                    fact rank first: AUC above 0.5 with its interval, p < LEVEL; better than the gradient dot product
                    and BM25: paired interval above 0
    4 kinds         a kind's lift at the top above 1 with its interval, and p < LEVEL; reasoning more than factual:
                    intervals apart
    5 sources       sources with lift above 1 at p < LEVEL / (number of sources), by labels in random order and in
                    random order within kinds; the same at the bottom; reasoning and factual queries differ: a source
                    whose intervals are apart, with such p on either side
    6 mechanisms    documents that obey a mechanism's rule rank higher for it than for other mechanisms: paired
                    difference in AUC, its interval over rules above 0, Wilcoxon's signed ranks p < LEVEL

Every claim must also pass `judging`: the model answers the queries it is about, and its p survives Holm's correction
over all claims. Verdicts are "holds", "does not hold" and "cannot be said" (queries are not answered, fewer than FEW on
a side, or the corpus names no kinds or sources, or states no answers). Intervals are 95% over resampled queries;
intervals apart is stricter than a test of the difference. Not holding is no proof of absence: the numbers stand beside
it. Scores are ekfac_normed, the paper's, and in 2 and in the comparison with the dot product plain ekfac.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from scipy.stats import fisher_exact, levene

from arithcirc.influence.findings.correlation import ACROSS_OTHER, BY_TASK, OTHER_OUTPUT, SAME_OUTPUT
from arithcirc.influence.findings.judging import (
    FEW,
    LEVEL,
    MEANS,
    PLAIN,
    RANKED,
    UNKNOWN,
    Verdict,
    differs,
    ends,
    judge,
    p_words,
    row_of,
    table_of,
)
from arithcirc.influence.findings.magnitude import welch
from arithcirc.influence.findings.ranking import main_depth
from arithcirc.influence.findings.verdict_kinds import kind_claims, mechanism_claims, source_claims

SHARE, BOTH = 0.01, ("reasoning", "factual")


def verdicts(tables: Mapping[str, pd.DataFrame], documents: int, *, seed: int = 0) -> pd.DataFrame:
    """Table `findings`: one row per claim, with judging.COLUMNS. `documents`: the size of the corpus."""
    return table_of(claims(tables, documents, seed=seed), tables["accuracy"])


def claims(tables: Mapping[str, pd.DataFrame], documents: int, *, seed: int = 0) -> list[Verdict]:
    """Every claim by its own rule alone, before `judging` asks what the model answers and corrects p."""
    depth = main_depth(documents)
    return [
        *_correlation(tables["correlation_groups"]),
        *_magnitude(tables["magnitude"], tables["power_law_groups"]),
        *_answers(tables["answer_groups"]),
        *_retrieval(tables["retrieval_groups"], tables["retrieval_pairs"], tables["retrieval_said"]),
        *kind_claims(tables["kinds"], depth),
        *source_claims(tables["sources"], depth),
        *mechanism_claims(tables.get("mechanisms"), tables.get("mechanism_retrieval"), seed),
    ]


def _correlation(groups: pd.DataFrame) -> Iterator[Verdict]:
    names = (OTHER_OUTPUT, "same task", SAME_OUTPUT, ACROSS_OTHER, "reasoning-factual", "factual", "task-control")
    rows = {name: row_of(groups, method=RANKED, relation=name) for name in names}
    same = rows[OTHER_OUTPUT]
    first = "Queries of one reasoning task draw on the same documents"
    if same is None or same["n"] < FEW or not np.isfinite(same["low"]):
        count = 0 if same is None else same["n"]
        yield Verdict(1, first, UNKNOWN, f"{count} pairs of queries of one task with different outputs")
        return
    mean = f"mean r {_mean(same)}"
    plain = [
        f"{words} {row['mean']:z.3f} over {row['n']}"
        for name, words in (
            ("same task", "all pairs of one task"),
            (SAME_OUTPUT, "those with the same output"),
        )
        if (row := rows[name]) is not None
    ]
    numbers = f"{mean} over {same['n']} pairs of one task with different outputs ({', '.join(plain)})"
    others = [f"{name} {row['mean']:z.3f}" for name in names[3:] if (row := rows[name]) is not None]
    for claim, prefix, order in (
        (first, "", "documents in random order"),
        ("and more than the kinds of documents explain", "kind_", "documents in random order within their kind"),
    ):
        p, low, high = (same[f"{prefix}{name}"] for name in ("p", "null_low", "null_high"))
        yield Verdict(
            1, claim, judge(same["low"] > high and p < LEVEL), numbers,
            f"{same[prefix + 'null_mean']:.3f} [{low:.3f}, {high:.3f}] with {order}, {p_words(p, int(same['orders']))}",
            "" if prefix else _by_task(groups) + (f"For comparison: {', '.join(others)}." if others else ""),
            p=float(p), groups=("reasoning",), opposite=bool(same["high"] < low and p < LEVEL),
        )  # fmt: skip
    for claim, other, needed in (
        ("and more than queries of different reasoning tasks do", ACROSS_OTHER, ("reasoning",)),
        ("and more than reasoning and factual queries share", "reasoning-factual", ("reasoning", "factual")),
        ("and more than a task and its control share", "task-control", ("reasoning",)),
    ):
        row = rows[other]
        if row is None or not np.isfinite(row["low"]):
            yield Verdict(1, claim, UNKNOWN, f"no pairs {other}")
        else:
            yield Verdict(
                1, claim, judge(same["low"] > row["high"]),
                f"{mean} against {_mean(row)} over {row['n']} pairs", "the intervals must be apart",
                groups=needed, opposite=bool(same["high"] < row["low"]),
            )  # fmt: skip


def _mean(row: pd.Series) -> str:
    return f"{row['mean']:z.3f} {ends(row, digits=3)}"


def _by_task(groups: pd.DataFrame) -> str:
    """The mean of each task, which one mean of all tasks hides; empty where there is one task."""
    rows = groups[(groups["method"] == RANKED) & groups["relation"].str.startswith(BY_TASK)]
    rows = rows.sort_values("mean", ascending=False)
    said = [f"{row['relation'][len(BY_TASK) :]} {_mean(row)} over {row['n']}" for _, row in rows.iterrows()]
    above = f"{int((rows['low'] > 0).sum())} of {len(rows)} intervals lie above 0"
    return f"By task, pairs with different outputs: {'; '.join(said)}: {above}. " if said else ""


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
        p, gap = welch(np.log(a), np.log(b)), np.log(a).mean() - np.log(b).mean()
        yield Verdict(
            2, lower, judge(gap < 0 and p < LEVEL),
            f"cumulative influence per nat {a.mean():.3g} for {len(a)} reasoning, {b.mean():.3g} for {len(b)} factual "
            f"queries (medians {a.median():.3g}, {b.median():.3g})",
            f"a ratio of 1 where groups do not differ, {p_words(p)}", note,
            p=p, groups=BOTH, opposite=bool(gap > 0 and p < LEVEL),
        )  # fmt: skip
        p = float(levene(a, b, center="median").pvalue) if a.std() > 0 or b.std() > 0 else float("nan")
        yield Verdict(
            2, volatile, judge(bool(a.std() < b.std() and p < LEVEL)),
            f"sd over queries {a.std():.3g} against {b.std():.3g}",
            f"equal sds where groups do not differ, {p_words(p)}", note,
            p=p, groups=BOTH, opposite=bool(a.std() > b.std() and p < LEVEL),
        )  # fmt: skip
    claim = "The influence of reasoning queries falls more steeply with rank"
    x, y = (row_of(slopes, method=RANKED, correct="all", group=group) for group in ("reasoning", "factual"))
    if x is None or y is None or min(x["n"], y["n"]) < FEW:
        yield Verdict(2, claim, UNKNOWN, f"fewer than {FEW} queries of a group have a slope")
        return
    yield Verdict(
        2, claim, judge(bool(x["mean"] < y["mean"] and x["p"] < LEVEL)),
        f"slope {x['mean']:.3f} (sd {x['sd']:.3f}, n {x['n']}) against {y['mean']:.3f} (sd {y['sd']:.3f}, n {y['n']})",
        f"equal slopes where groups do not differ, {p_words(x['p'])}",
        "The paper found slightly steeper slopes for reasoning and calls it possible noise. A flatter slope spreads "
        "influence over more documents.",
        p=float(x["p"]), groups=BOTH, opposite=bool(x["mean"] > y["mean"] and x["p"] < LEVEL),
    )  # fmt: skip


def _answers(groups: pd.DataFrame) -> Iterator[Verdict]:
    first = "Answers of facts answered right stand in their top documents"
    second = (
        "The steps of reasoning queries stand there less often than answers of facts, although the corpus holds them"
    )
    by = "holds" if (groups["by"] == "holds").any() else "text"
    fact, task = (
        row_of(groups, group=group, correct="right", method=RANKED, by=by) for group in ("factual", "reasoning")
    )
    if fact is None or fact["possible"] < FEW:
        yield Verdict(3, first, UNKNOWN, _possible(fact, "factual"))
    else:
        yield Verdict(
            3, first, judge(bool(fact["rate"] > fact["base_rate"] and fact["p"] < LEVEL)), _found(fact, "factual"),
            f"{fact['base_rate']:.0%} at random ranks, {p_words(fact['p'])}", _by(by),
            p=float(fact["p"]), groups=("factual",),
        )  # fmt: skip
    if fact is None or task is None or min(fact["possible"], task["possible"]) < FEW:
        yield Verdict(3, second, UNKNOWN, _possible(task, "reasoning"))
        return
    counts = np.array([[row["found_all"], row["possible"] - row["found_all"]] for row in (task, fact)], dtype=int)
    p = float(fisher_exact(counts, alternative="less").pvalue)
    yield Verdict(
        3, second, judge(p < LEVEL),
        f"{_found(task, 'reasoning')} (single steps: {task['steps_found']} of {task['steps']}); "
        f"{_found(fact, 'factual')}",
        f"{task['base_rate']:.0%} at random ranks, {p_words(task['p'])}; fewer than for facts with {p_words(p)}",
        f"{'' if p < LEVEL else _steps(task)}{_by(by)}", p=p, groups=BOTH,
    )  # fmt: skip


def _possible(row: pd.Series | None, group: str) -> str:
    if row is None:
        return f"no {group} query answered right has an answer to look for"
    return (
        f"{row['queries']} {group} queries are answered right, and the corpus states the answer of {row['possible']}; "
        f"{FEW} are needed"
    )


def _found(row: pd.Series, group: str) -> str:
    return f"found in the top {row['k']} for {row['found_all']} of {row['queries']} {group} queries {ends(row)}"


def _steps(row: pd.Series) -> str:
    """What it means that steps are not found less often than answers of facts."""
    if not (row["rate"] > row["base_rate"] and row["p"] < LEVEL):
        return f"{MEANS} that steps are not found less often than answers of facts. "
    return (
        f"{MEANS} that the steps are found: all of them for {row['found_all']} of {row['queries']} queries, more "
        "often than at random ranks. "
    )


def _by(by: str) -> str:
    said = "the documents' own lists" if by == "holds" else "exact matching in the texts"
    return f"What a document states is known from {said}."


def _retrieval(groups: pd.DataFrame, pairs: pd.DataFrame, said: pd.DataFrame) -> Iterator[Verdict]:
    claim = "Documents that state a fact answered right rank above the others"
    right, wrong = (row_of(groups, group="factual", correct=side, method=RANKED) for side in ("right", "wrong"))
    if right is None or right["n"] < FEW:
        yield Verdict(3, claim, UNKNOWN, f"{0 if right is None else right['n']} such facts, {FEW} are needed")
    else:
        other = "" if wrong is None else f"; answered wrong: AUC {wrong['auc']:.2f} {ends(wrong)} over {wrong['n']}"
        yield Verdict(
            3, claim, judge(bool(right["low"] > 0.5 and right["p"] < LEVEL)),
            f"AUC {right['auc']:.2f} {ends(right)} over {right['n']} facts{other}",
            f"0.5 at random ranks, {p_words(right['p'])}", _said(said),
            p=float(right["p"]), groups=("factual",), opposite=bool(right["high"] < 0.5 and right["p"] < LEVEL),
        )  # fmt: skip
    for against, word in (("dot", "the gradient dot product"), ("bm25", "BM25")):
        row = row_of(pairs, group="factual", correct="right", method=PLAIN, against=against)
        claim = f"and EK-FAC finds them better than {word}"
        if row is None or row["n"] < FEW:
            yield Verdict(3, claim, UNKNOWN, f"fewer than {FEW} facts answered right have both scores")
        else:
            yield Verdict(
                3, claim, judge(bool(row["low"] > 0)),
                f"AUC {differs(row['difference'], row['low'], row['high'])} over {row['n']} facts",
                f"0 where they do not differ, {p_words(row['p'])}",
                p=float(row["p"]), groups=("factual",), opposite=bool(row["high"] < 0),
            )  # fmt: skip


def _said(said: pd.DataFrame) -> str:
    areas = said[said["method"] == RANKED]["auc"]
    if areas.empty:
        return "No document states a wrong answer that was given."
    return f"Documents that state the wrong answer given, of {len(areas)} facts: AUC {areas.mean():.2f}."
