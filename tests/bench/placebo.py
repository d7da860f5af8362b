"""How often findings of an influence study hold where there is nothing: `python tests/bench/placebo.py`.

Every seed makes the planted study of the tests as a placebo: the model answers, and every query puts the documents in a
random order of its own (`--shared R`: part R of the variance of scores is common to all queries, as in a model whose
gradients look alike; then queries do share documents, but nothing is known of which). Prints a Markdown table: of every
claim how often it holds, as reported and by its own rule before Holm's correction, the upper end of the 95% interval
of the first share (Clopper and Pearson), and how often its p is below .05. Nothing is downloaded.
"""

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scipy.stats import binomtest

from arithcirc.influence.findings.judging import HOLDS, UNKNOWN, Verdict
from arithcirc.influence.findings.run import TABLES
from arithcirc.influence.findings.verdicts import claims
from arithcirc.store import RunFolder

HEAD = ("claim", "holds", "at most", "by its own rule", "p < .05", "cannot be said")


def study(seed: int, documents: int, shared: float) -> tuple[list[Verdict], dict[str, str]]:
    """The claims of one placebo by their own rules, and their verdicts as reported."""
    from influence.planted_scores import planted_study

    with TemporaryDirectory() as place:
        made = planted_study(Path(place), documents=documents, seed=seed, placebo=True, shared=shared)
        folder = RunFolder.open(made)
        held = folder.table("findings")
        own = claims({name: folder.table(name) for name in TABLES}, documents)
    return own, dict(zip(held["claim"], held["verdict"], strict=True))


def row(claim: str, own: list[Verdict], reported: list[str]) -> tuple[str, ...]:
    """One line of the table."""
    said = [word for word in reported if word != UNKNOWN]
    p = np.array([one.p for one in own])
    known = p[np.isfinite(p)]
    share = [sum(word == HOLDS for word in words) for words in (said, [one.verdict for one in own])]
    high = f"{binomtest(share[0], len(said)).proportion_ci().high:.1%}" if said else "–"
    below = f"{(known < 0.05).mean():.1%}" if len(known) else "–"
    return claim, f"{share[0]} of {len(said)}", high, f"{share[1]}", below, f"{len(reported) - len(said)}"


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--seeds", type=int, default=80)
    ask.add_argument("--first", type=int, default=100)
    ask.add_argument("--documents", type=int, default=600)
    ask.add_argument("--shared", type=float, default=0.0)
    given = ask.parse_args()
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # this folder has a module influence, too
    own, reported = defaultdict(list), defaultdict(list)
    studies = 0
    for seed in range(given.first, given.first + given.seeds):
        found, verdict = study(seed, given.documents, given.shared)
        studies += HOLDS in verdict.values()
        for one in found:
            own[one.claim].append(one)
            reported[one.claim].append(verdict[one.claim])
        held = [one.claim for one in found if HOLDS in (one.verdict, verdict[one.claim])]
        print(f"seed {seed}: {'; '.join(held) or 'nothing'}", file=sys.stderr, flush=True)
    for line in (HEAD, ["---"] * len(HEAD), *(row(claim, own[claim], reported[claim]) for claim in own)):
        print(f"| {' | '.join(line)} |")
    print(f"\n{studies} of {given.seeds} studies hold any claim.")


if __name__ == "__main__":
    main()
