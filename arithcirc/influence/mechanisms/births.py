"""When a mechanism was built, and which documents were building it then: influence before and after its birth.

A mechanism's value is measured at every checkpoint of a model. Its birth is

    given     the checkpoint from which its label's score stays at the threshold (table `births` of a sweep), or
    crossing  else the first checkpoint from which sign x value stays at half of its final value or above,

and `before` is the checkpoint before that. At both, curvature is fitted anew on the same documents and the documents
scored; their kinds among the top ones are set against their share of the corpus, and the influence vector is compared
with that of the last checkpoint (Pearson r). A mechanism at work in the first checkpoint has no birth; one whose value
at the last checkpoint has the wrong sign has none by crossing.
Cost: one forward of all prompts per checkpoint, and one fit and two passes over the documents per checkpoint that is
`before` or `after` of some mechanism. `at_most` limits these: the checkpoints that most mechanisms need come first,
and mechanisms that are left out are returned by name. Scores of a checkpoint are kept as soon as they are made, and
read again for the same weights, mechanisms, documents and settings (`birth_scores`).
The measured prompts and weights are those of the last checkpoint's labels: a value before the birth asks what the same
neurons did then, not what carried the rule.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.stats import hypergeom
from torch import nn

from arithcirc.errors import RequestError
from arithcirc.influence.engine import Settings
from arithcirc.influence.mechanisms.birth_scores import scores_at
from arithcirc.influence.mechanisms.equations import found_by
from arithcirc.influence.mechanisms.measurements import prepare, values
from arithcirc.influence.mechanisms.values import Mechanism
from arithcirc.influence.rows import Row

HALF = 0.5
LEVEL = 0.95
Load = Callable[[str], nn.Module]
"""The network of a checkpoint, by its revision."""
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint, by the name it is loaded with and its training step."""

    revision: str
    step: int


@dataclass(frozen=True)
class Births:
    """`values`: query, revision, step, value, birth (how it was found), born. `table`: as `births.parquet`.

    `left_out`: mechanisms without a birth, or whose checkpoints were too many; `seconds` by checkpoint scored.
    """

    values: pd.DataFrame
    table: pd.DataFrame
    left_out: tuple[str, ...]
    seconds: Mapping[str, float]


def births(
    mechanisms: Sequence[Mechanism], checkpoints: Sequence[Checkpoint], load: Load, tracked: Sequence[str],
    documents: Sequence[Row], kinds: Sequence[str], folder: Path, *,
    settings: Settings | None = None, given: pd.DataFrame | None = None, at_most: int = 4, top: int | None = None,
    shares: Sequence[Float[np.ndarray, "document"]] | None = None,
    final: Float[np.ndarray, "mechanism document"] | None = None, progress: Progress | None = None,
) -> Births:  # fmt: skip
    """Values at all checkpoints, and influence before and after each mechanism's birth.

    `checkpoints` ascend, the last is the one that was labelled; `kinds` are the documents'; factors and scores are
    kept in `folder/<revision>`; `given` are rows of a sweep's births (operator, layer, neuron, heuristic, birth). Kinds
    are counted among the `top` documents by ekfac_normed (None: a tenth, at most 100). With `shares`
    (`Equations.share` of each mechanism) the table also says how well documents that obey a heuristic are found, as
    `retrieval` does. `final`: ekfac_normed at the last checkpoint where it is known, which then costs nothing. Raises
    RequestError with fewer than two checkpoints.
    """
    if len(checkpoints) < 2:
        raise RequestError(f"a birth needs two or more checkpoints, {len(checkpoints)} given: keep more in training")
    settings = settings or Settings()
    told = progress or (lambda *_: None)
    measured = np.zeros((len(checkpoints), len(mechanisms)))
    for i, checkpoint in enumerate(checkpoints):
        network = load(checkpoint.revision)
        measured[i] = values(network, prepare(network, tracked, mechanisms))
        told("values", i + 1, len(checkpoints))
    born = [_birth(m, measured[:, j], checkpoints, given) for j, m in enumerate(mechanisms)]
    wanted = _affordable([at for at, _ in born], at_most)
    last = len(checkpoints) - 1
    seconds: dict[str, float] = {}
    scores = {} if final is None or not wanted else {last: final}
    todo = [at for at in dict.fromkeys([*wanted, last]) if at not in scores] if wanted else []
    for count, at in enumerate(todo, 1):
        begun, name = time.perf_counter(), checkpoints[at].revision
        scores[at] = scores_at(load(name), tracked, mechanisms, documents, folder / name, settings)
        seconds[name] = time.perf_counter() - begun
        told("births", count, len(todo))
    k = top or max(1, min(100, len(documents) // 10))
    kept = [j for j, (at, _) in enumerate(born) if at is not None and {at - 1, at} <= set(scores)]
    places = {j: {"before": (at := born[j][0] or 0) - 1, "after": at, "final": last} for j in kept}
    obeyed = {} if shares is None else {at: found_by(found, mechanisms, shares) for at, found in scores.items()}
    rows = [
        {
            "query": mechanisms[j].id, "revision": checkpoints[at].revision, "step": checkpoints[at].step, "when": when,
            "k": k, **row, "value": float(measured[at, j]), "r": _pearson(scores[at][j], scores[last][j]),
            **(asdict(obeyed[at][j]) if obeyed else {}),
        }
        for j in kept
        for when, at in places[j].items()
        for row in lifts(kinds, np.argsort(-scores[at][j], kind="stable")[:k])
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    left = tuple(m.id for j, m in enumerate(mechanisms) if j not in kept)
    return Births(_values_table(mechanisms, checkpoints, measured, born), table, left, seconds)


def crossing(strength: Float[np.ndarray, "checkpoint"]) -> int | None:
    """The first place from which a strength stays at half of its last value or above; None: at once, or never."""
    if not strength[-1] > 0:
        return None
    below = np.flatnonzero(strength < HALF * strength[-1])
    return int(below[-1]) + 1 if len(below) else None


def _birth(
    mechanism: Mechanism, measured: Float[np.ndarray, "checkpoint"], checkpoints: Sequence[Checkpoint],
    given: pd.DataFrame | None,
) -> tuple[int | None, str]:  # fmt: skip
    """Place of the checkpoint of birth (never the first), and how it was found."""
    if given is not None and mechanism.what == "neuron":
        one = mechanism.neurons[0]
        same = (given["layer"] == one.layer) & (given["neuron"] == one.index)
        rows = given[same & (given["operator"] == mechanism.operator) & (given["heuristic"] == mechanism.heuristic)]
        steps = rows["birth"].dropna()
        places = [i for i, c in enumerate(checkpoints) if len(steps) and c.step == int(steps.min())]
        if places:
            return (places[0] or None), "given"
    return crossing(mechanism.sign * measured), "crossing"


def _affordable(born: Sequence[int | None], at_most: int) -> list[int]:
    """Checkpoints to fit, in order: pairs (before, after) by how many mechanisms need them, while there is room."""
    chosen: set[int] = set()
    for at, _ in Counter(at for at in born if at is not None).most_common():
        if len(chosen | {at - 1, at}) <= at_most:
            chosen |= {at - 1, at}
    return sorted(chosen)


def _pearson(one: Float[np.ndarray, "document"], other: Float[np.ndarray, "document"]) -> float:
    """Pearson's r; NaN where one of the two is constant."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


def lifts(kinds: Sequence[str], first: Int[np.ndarray, "top"]) -> list[dict[str, object]]:
    """For each kind: count among the chosen documents, lift over its share, and the lift chance gives (95%)."""
    of = np.array(kinds, dtype=object)
    rows: list[dict[str, object]] = []
    for kind in sorted(set(kinds)):
        everywhere, count = int((of == kind).sum()), int((of[first] == kind).sum())
        chance = hypergeom(len(of), everywhere, len(first))
        expected = len(first) * everywhere / len(of)
        edges = [float(chance.ppf(q)) / expected for q in ((1 - LEVEL) / 2, (1 + LEVEL) / 2)]
        rows.append({"kind": kind, "count": count, "share": count / len(first), "lift": count / expected,
                     "chance_low": edges[0], "chance_high": edges[1]})  # fmt: skip
    return rows


def _values_table(
    mechanisms: Sequence[Mechanism], checkpoints: Sequence[Checkpoint],
    measured: Float[np.ndarray, "checkpoint mechanism"], born: Sequence[tuple[int | None, str]],
) -> pd.DataFrame:  # fmt: skip
    return pd.DataFrame([
        {
            "query": m.id, "revision": c.revision, "step": c.step, "value": float(measured[i, j]), "sign": m.sign,
            "birth": how if at is not None else "", "born": at is not None and i >= at,
        }
        for j, (m, (at, how)) in enumerate(zip(mechanisms, born, strict=True))
        for i, c in enumerate(checkpoints)
    ])  # fmt: skip
