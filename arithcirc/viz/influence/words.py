"""What an influence study did and found, in sentences made from its tables and its configuration, and nothing else.

The verdicts are the study's own (table `findings`); nothing is judged here. A verdict that does not hold, or cannot be
said, is said as plainly as one that holds.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from arithcirc.viz import theme
from arithcirc.viz.frames import RunData, column, has, numbers
from arithcirc.viz.influence import names

LEVEL, HOLM, AT_CHANCE, ENOUGH = 0.01, 0.05, 0.05, 5
"""Levels of the verdicts, as they are said: a claim's own p, p after correction, and when a task is at chance."""
REMARKS = ("The opposite is the case here", "Not holding means here", "By task")
"""How the first sentence of a note begins that a verdict must not be read without."""
PAPER = 5
"""How many findings are the paper's; those after them are ours."""
HOW_TO_READ = {
    1: (
        "Each query has one score per document. Two queries whose scores rise and fall together (Pearson r above 0) "
        "take from the same documents. The grey bar is what r would be if documents were in random order, the yellow "
        "one if they were in random order within their kind: a mean on the yellow bar says only that the queries like "
        "the same kinds of text."
    ),
    2: (
        "Scores of the strongest documents are added up and divided by the nats of the completion, so that queries "
        "compare. The scale is relative: a score depends on the damping and is not divided by the number of documents, "
        "so a sum far above 1 is no change that could happen; compare groups, not sizes. A curve that rises early "
        "rests on few documents; the dotted line is every document alike. On two "
        "logarithmic axes a power law is a straight line, and α its slope."
    ),
    3: (
        "A document holds an answer when it states what the query needs, matched exactly: the fact, or each step of "
        "the calculation. Left of the dashed line the best such document is among the top. Grey: where the best of as "
        "many documents would stand at random. The AUC asks the same of the whole ranking: the chance that a document "
        "that holds what is needed ranks above one that does not."
    ),
    4: (
        "Lift is the share of a kind among the top documents over its share of the corpus: 1 is no preference. "
        "Intervals are over queries; a lift of none stands at the left edge."
    ),
    5: "As with kinds, at both ends of the ranking: documents at the bottom make the completion less likely.",
}
NOT_SHOWN = {
    1: (
        "That two queries share documents does not say that they share what is learned from them: format alone makes "
        "gradients alike."
    ),
    2: (
        "Influence is a first-order estimate around the trained model, summed over documents as if they did not "
        "interact. It is not what retraining without them would do."
    ),
    3: "An answer put in other words is not found; a number that is there for another reason is not counted.",
    4: "Documents of one kind resemble each other, so one brings its likes: kinds are no independent draws.",
    5: "Sources and kinds go together in a made corpus; a source may be preferred for its kinds only.",
}


@dataclass(frozen=True)
class Claim:
    """One row of the table of findings, as a page writes it."""

    text: str
    verdict: str
    numbers: str
    base_rate: str
    note: str

    @property
    def tag(self) -> str:
        """The style of the verdict: good, miss or plain."""
        return names.VERDICT_TAGS.get(self.verdict, "plain")

    @property
    def remark(self) -> str:
        """The sentence of its note that a summary must not leave out; empty where there is none."""
        return f"{self.note.split('. ')[0].rstrip('.')}." if self.note.startswith(REMARKS) else ""

    @property
    def reason(self) -> str:
        """Why nothing can be said, the first sentence of its note, without the full stop; empty where it is judged."""
        if self.verdict in names.VERDICT_TAGS:
            return ""
        return (self.note or self.numbers or "no reason is recorded").split(". ")[0].rstrip(".")


_CLAIM = ("claim", "verdict", "numbers", "base_rate", "note")


@dataclass(frozen=True)
class Finding:
    """One of the paper's findings with its claims."""

    number: int
    title: str
    claims: tuple[Claim, ...]

    @property
    def word(self) -> str:
        """`holds`, `does not hold`, `holds in part (2 of 4)` or `cannot be said`, from those that could be said."""
        said = [c.verdict == "holds" for c in self.claims if c.verdict in names.VERDICT_TAGS]
        if not said:
            return "cannot be said"
        if all(said) or not any(said):
            return "holds" if all(said) else "does not hold"
        return f"holds in part ({sum(said)} of {len(said)})"

    @property
    def noted(self) -> list[tuple[Claim, str]]:
        """Every claim and its note; a reason why nothing can be said stands in the first note that has it."""
        found, said = [], set[str]()
        for claim in self.claims:
            again = bool(claim.note) and claim.reason in said
            found.append((claim, claim.note[len(claim.reason) :].lstrip(". ") if again else claim.note))
            said |= {claim.reason} - {""}
        return found

    @property
    def tag(self) -> str:
        """The style of its word."""
        return {"holds": "good", "does not hold": "miss"}.get(self.word, "plain")


def findings(data: RunData) -> list[Finding]:
    """The findings in order; those without a row are left out."""
    if not has(data.tables, "findings", "finding", "claim", "verdict"):
        return []
    table = data.tables["findings"].fillna("")
    found = []
    for number, rows in table.groupby("finding", sort=True):
        claims = tuple(
            Claim(*(theme.prose(readable(str(row.get(column, "")))) for column in _CLAIM))
            for row in rows.to_dict("records")
        )
        found.append(Finding(int(str(number)), names.FINDINGS.get(int(str(number)), f"Finding {number}"), claims))
    return found


def readable(text: str) -> str:
    """Powers of ten above 1 as whole numbers with thousands separated: `1.11e+04` is `11,100`."""
    return re.sub(r"(?<![\w.])-?\d(?:\.\d+)?e\+(?:0\d|1[0-2])(?!\d)", lambda m: f"{float(m[0]):,.0f}", text)


def in_short(found: list[Finding]) -> str:
    """One sentence that counts the paper's claims; what a study asks beyond them has its own."""
    claims = [c.verdict for f in found if f.number <= PAPER for c in f.claims]
    if not claims:
        return "The findings have not been computed."
    held, not_, unsaid = (claims.count(v) for v in ("holds", "does not hold", "cannot be said"))
    if not held and not not_:
        return f"Of the {len(claims)} claims about the paper’s five findings none can be judged here."
    text = f"Of {len(claims)} claims about the paper’s five findings, {held} hold here, {not_} do not"
    return f"{text}, and of {unsaid} nothing can be said." if unsaid else f"{text}."


def levels(found: list[Finding]) -> str:
    """By which levels claims are judged, with how many were corrected for each other; empty where none was judged."""
    judged = [(f, c) for f, claims in sayable(found) for c in claims]
    corrected = sum("Corrected for" in c.note for _, c in judged)
    if not judged:
        return ""
    beyond = sum(f.number > PAPER for f, _ in judged)
    count = f"{len(judged)} judged claims"
    count += f" ({len(judged) - beyond} about the paper’s findings, {beyond} beyond them)" if beyond else ""
    return (
        f"Levels: a claim holds if its own rule is met (p < {LEVEL:g}, for a source divided by the number of sources; "
        f"or an interval that leaves out no difference, or intervals apart) and p stays below {HOLM:g} after Holm’s "
        f"correction over the claims that have a p, {corrected} of the {count}. A p between {LEVEL:g} and {HOLM:g} "
        "alone is not enough. Claims judged by intervals alone have no p and are not corrected."
    )


def not_shown(data: RunData) -> dict[int, str]:
    """NOT_SHOWN, with what this study's own queries cannot tell."""
    if not has(data.tables, "queries", "group", "task", "prompt"):
        return NOT_SHOWN
    mine = data.tables["queries"]
    mine = mine[mine["group"] == "reasoning"]
    wordings = mine["prompt"].astype(str).map(lambda text: " ".join(re.findall(r"[^\W\d_]+", text)))
    several = wordings.groupby(mine["task"].fillna("")).nunique()
    if several.empty or several.max() > 1:
        return NOT_SHOWN
    same = (
        " Here all queries of a reasoning task have one wording, numbers aside: whether they share a procedure or a "
        "format cannot be told apart."
    )
    return NOT_SHOWN | {1: NOT_SHOWN[1] + same}


def sayable(found: list[Finding]) -> list[tuple[Finding, list[Claim]]]:
    """The findings with the claims that could be judged; findings without one are left out."""
    held = [(f, [c for c in f.claims if c.verdict in names.VERDICT_TAGS]) for f in found]
    return [(f, claims) for f, claims in held if claims]


def unsayable(found: list[Finding]) -> list[tuple[str, str]]:
    """Each reason why nothing can be said, and the claims it is given for, those of a finding after its number."""
    by_reason: dict[str, dict[int, list[str]]] = {}
    for finding in found:
        for claim in finding.claims:
            if claim.reason:
                mine = by_reason.setdefault(claim.reason, {}).setdefault(finding.number, [])
                mine.append(claim.text[:1].lower() + claim.text[1:])
    return [
        (reason[0].upper() + reason[1:], "; ".join(f"{n} · {'; '.join(texts)}" for n, texts in claims.items()))
        for reason, claims in by_reason.items()
    ]


def accuracy(data: RunData) -> str:
    """What the model answers right, in one sentence, with what chance gives where the study knows it."""
    said = []
    for group, right, queries, chance, notes in _accuracies(data):
        remarks = [f"chance {theme.percent(chance)}"] if chance is not None else []
        base = "; ".join(remarks + notes)
        said.append(f"{right} of {queries} {group} queries{f' ({base})' if base else ''}")
    if not said:
        return ""
    *first, last = said
    return f"The model answers {', '.join(first)}{' and ' if first else ''}{last} right."


def _accuracies(data: RunData) -> list[tuple[str, int, int, float | None, list[str]]]:
    """Group, right, queries, chance, remarks: from table `accuracy`, a group's own row or else its tasks together."""
    if not has(data.tables, "accuracy", "group", "task", "queries", "right", "chance"):
        return [(r["group"], r["right"], r["queries"], None, []) for r in answered(data) if "control" not in r["group"]]
    table = data.tables["accuracy"]
    found: list[tuple[str, int, int, float | None, list[str]]] = []
    for group in names.in_order(table["group"], names.GROUPS):
        if group.startswith("control"):
            continue
        rows = table[table["group"] == group]
        whole = rows["task"].isna() | rows["task"].astype(str).isin(["", "all"])
        mine = rows[whole] if whole.any() else rows
        queries, right, chance = numbers(mine, ["queries", "right", "chance"]).T
        total = int(queries.sum())
        expected = float((queries * chance).sum() / total) if total else float("nan")
        base = None if pd.isna(expected) else expected
        steps = numbers(mine, ["steps"])[:, 0]
        notes = [f"{int(steps.sum())} with every step right"] if (steps >= 0).all() else []
        tasks = [_measured(row) for row in rows[~whole].to_dict("records")]
        notes += [f"{one['task']} {one['right']} of {one['queries']}, at chance" for one in tasks if one["at_chance"]]
        found.append((names.group(group), int(right.sum()), total, base, notes))
    return found


def _measured(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row of table `accuracy`: None for what it does not know; `at_chance` where enough queries tell that."""
    chance, p, steps = (float(row.get(name, float("nan"))) for name in ("chance", "p", "steps"))
    return {
        "task": str(row["task"]).replace("_", " "), "queries": int(row["queries"]), "right": int(row["right"]),
        "chance": None if pd.isna(chance) else chance, "p": None if pd.isna(p) else p,
        "steps": int(steps) if steps >= 0 else None,
        "at_chance": bool(row["task"]) and int(row["queries"]) >= ENOUGH and p >= AT_CHANCE,
    }  # fmt: skip


def answered(data: RunData) -> list[dict[str, Any]]:
    """Per group of queries: how many, how many answered rightly, and the mean size of the completions."""
    return [row for row in asked(data) if not row["task"]]


def asked(data: RunData) -> list[dict[str, Any]]:
    """`answered` with each group's tasks after it (of controls none), and chance, p and steps where they are known."""
    if not has(data.tables, "queries", "query", "group", "correct"):
        return []
    table = data.tables["queries"]
    table = table.assign(task=column(table, "task", default="").fillna("").astype(str))
    held = data.tables["accuracy"].fillna({"task": ""}).to_dict("records") if "accuracy" in data.tables else []
    known = {(row["group"], row["task"]): _measured(row) for row in held}
    rows = []
    for group in names.in_order(table["group"], names.GROUPS):
        mine = table[table["group"] == group]
        tasks = [] if group.startswith("control") else names.in_order(set(mine["task"]) - {""}, {})
        for task in ["", *(tasks if len(tasks) > 1 else [])]:
            part = mine[mine["task"] == task] if task else mine
            nats, tokens = numbers(part, ["nats", "tokens"]).mean(axis=0)
            right = int(part["correct"].astype("boolean").fillna(False).sum())
            unknown = {"chance": None, "p": None, "steps": None, "at_chance": False}
            rows.append(known.get((group, task), unknown) | {
                "group": names.group(group), "task": task.replace("_", " "), "queries": len(part), "right": right,
                "share": right / len(part), "nats": nats, "tokens": tokens,
            })  # fmt: skip
    return rows


def corpus(data: RunData, table: str, column: str) -> list[dict[str, Any]]:
    """Kinds or sources with their documents and tokens."""
    if not has(data.tables, table, column, "documents", "share"):
        return []
    rows = data.tables[table].to_dict("records")
    named = names.kind if column == "kind" else lambda word: word or "no source"
    order = {w: i for i, w in enumerate(names.KINDS)} if column == "kind" else {}
    rows = sorted(rows, key=lambda r: (order.get(r[column], len(order)), -r["documents"]))
    return [
        {
            "name": named(str(row[column]) if row[column] is not None else ""), "documents": int(row["documents"]),
            "share": float(row["share"]), "tokens": None if pd.isna(row["tokens"]) else int(row["tokens"]),
        }
        for row in rows
    ]  # fmt: skip


def settings(data: RunData, config: Mapping[str, Any], facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How it was computed, in sentences by subject."""
    part = {name: config.get(name) or {} for name in ("corpus", "factors", "queries", "scores")}
    factors, scores = part["factors"], part["scores"]
    tracked = list(factors.get("tracked") or ())
    damping = scores.get("damping")
    drawn = factors.get("fit_documents")
    said = [
        ("Curvature", (
            f"{_strategy(factors.get('strategy', 'ekfac'))}, fitted on {theme.count(drawn) if drawn else 'all'} "
            f"documents with labels sampled from the model (the true Fisher; seed {factors.get('seed', 0)})."
        )),
        ("Damping", (
            "0.1 × the mean eigenvalue of each layer." if damping is None else f"{damping:g}."
        )),
        ("Tracked layers", (
            f"{len(tracked)} linear layers: {_shortened(tracked)}. Embeddings, attention unless named here, norms and "
            "the unembedding have no part in any score."
        ) if tracked else "not recorded."),
        ("Documents", _documents(data, part["corpus"], facts)),
        ("Queries", (
            f"The model’s own greedy completion of at most {part['queries'].get('max_new_tokens', '?')} tokens, "
            "right or wrong; the prompt is given, not part of the loss. f is the completion’s negative "
            "log-likelihood in nats."
        )),
        ("Sign and unit", (
            "Positive: more of the document would make the completion likelier. Sums over documents are divided by the "
            "completion’s nats."
        )),
        ("Normalisation", (
            f"“{names.method('ekfac_normed')}” divides by the norm of the document’s gradient (plain, not "
            f"preconditioned) as the paper’s rankings do; “{names.method('ekfac')}” does not."
        )),
        ("Baselines", (
            "Dot product and cosine of the same gradients without curvature, BM25 over words, and random numbers "
            f"(seed {scores.get('seed', 0)})."
        )),
    ]  # fmt: skip
    if scores.get("low_rank"):
        said.append(("Approximation", f"Query gradients were reduced to rank {scores['low_rank']}."))
    return said


def _strategy(name: str) -> str:
    return {"ekfac": "EK-FAC", "kfac": "K-FAC", "diagonal": "Diagonal", "identity": "Identity (none)"}.get(name, name)


def _shortened(tracked: list[str]) -> str:
    return ", ".join(tracked) if len(tracked) <= 6 else f"{', '.join(tracked[:3])}, … , {tracked[-1]}"


def _documents(data: RunData, corpus: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    asked, context = corpus.get("max_tokens"), facts.get("max_tokens")
    most = min((int(n) for n in (asked, context) if n), default="?")
    what = "cut into pieces" if corpus.get("long") == "chunk" else "truncated"
    text = f"The gradient of the summed next-token loss of each document; those longer than {most} tokens are {what}"
    if has(data.tables, "corpus", "cut", "documents"):
        cut, total = (int(data.tables["corpus"][c].sum()) for c in ("cut", "documents"))
        text += f" ({cut:,} of {total:,})"
    return f"{text}."
