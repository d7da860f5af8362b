"""How many layers a path needs: where its answer can be read, and how soon attention may stop.

Two curves over layers, by distance along the chain (designed.py).

    read        the probe at a role of the question after so many layers (reach_probes.py), the role as `scope`
    attention   accuracy when the heads of all later layers are at their means, with the MLPs as they are: at all tokens
                (`everywhere`), at the premise's alone (`premise`: how long the premise must be worked through before
                the question looks at it) or at the question's alone (`question`)

`needed` is the smallest number of layers with which a curve reaches NEAR of the way from chance to what all layers
have, from where on it stays there; missing where all layers are not above chance.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from arithcirc.axioms.opening.ablation import Ablated, ablated
from arithcirc.axioms.opening.designed import Designed
from arithcirc.axioms.opening.opened import Opened
from arithcirc.measure.intervals import wilson
from arithcirc.models.protocol import Edit

CHANCE = 0.5
NEAR = 0.9
READ = ("asked cause", "verb", "asked effect", "mark")
SCOPES = ("everywhere", "premise", "question")


def layer_curves(
    opened: Opened,
    designed: Sequence[Designed],
    probes: pd.DataFrame,
    *,
    progress: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Columns: curve, scope, distance, layers, n, accuracy, low, high. `probes` is the table of `reach_probes`.

    `layers` of 0 is none of them. `progress` counts layers.
    """
    read = probes[probes["role"].isin(READ)].rename(columns={"role": "scope", "layer": "layers", "test": "n"})
    made = ablated(opened, [one.question for one in designed])
    distance = np.array([one.distance for one in designed])
    rows = []
    for layers in range(opened.hooked.info.n_layers + 1):
        for scope in SCOPES:
            right = (made.margins(edit=_stop_attending(made, layers, scope)) > 0).numpy()
            for length in (0, *np.unique(distance).tolist()):
                mine = right if not length else right[distance == length]
                interval = wilson(int(mine.sum()), len(mine))
                rows.append(("attention", scope, length, layers, len(mine), float(mine.mean()), *interval))
        if progress is not None:
            progress(1)
    columns = ["curve", "scope", "distance", "layers", "n", "accuracy", "low", "high"]
    return pd.concat([read.assign(curve="read")[columns], pd.DataFrame(rows, columns=columns)], ignore_index=True)


def _stop_attending(made: Ablated, layers: int, scope: str) -> Edit:
    """Heads of the layers after the first so many at their means, at the tokens of a scope."""
    start = made.layout.sentences * made.layout.sentence_tokens
    where = {"everywhere": slice(None), "premise": slice(0, start), "question": slice(start, None)}[scope]

    def edit(part: str, layer: int, value: Tensor) -> Tensor | None:
        if part != "z" or layer < layers:
            return None
        changed = torch.clone(value)
        changed[:, where] = made.means.z[layer][where].to(value.device, value.dtype)
        return changed

    return edit


def layers_needed(curves: pd.DataFrame) -> pd.DataFrame:
    """Columns: curve, scope, distance, n, needed, wanted, best: layers from which on accuracy is at least `wanted`.

    `best` is what all layers have.
    """
    rows = []
    for (curve, scope, distance), part in curves.groupby(["curve", "scope", "distance"], sort=False):
        part = part.sort_values("layers")
        best, low = part["accuracy"].iloc[-1], part["low"].iloc[-1]
        wanted = CHANCE + NEAR * (best - CHANCE)
        below = np.flatnonzero(part["accuracy"].to_numpy() < wanted)
        needed = None if low <= CHANCE else int(part["layers"].iloc[below[-1] + 1 if len(below) else 0])
        rows.append((curve, scope, distance, int(part["n"].iloc[-1]), needed, wanted, best))
    columns = ["curve", "scope", "distance", "n", "needed", "wanted", "best"]
    return pd.DataFrame(rows, columns=columns).astype({"needed": "Int64"})
