"""Where the answer can be read: a linear probe per layer and role, on graphs that it was not trained on.

Questions are the designed ones (designed.py): answer, distance, direction and order of mention are told apart, and a
graph comes once, so held-out questions are about other graphs. `layer` l is the input of block l, the layer after the
last is the final residual. `distance` 0 is all distances; else the accuracy is of questions at that distance, half of
them Yes. The premise's last full stop has not seen the question: what it reads is what the premise alone gives away
(of a long part of the chain that has both directions only No can be the answer, so at most .75), and a base rate too.

A probe that reads the answer does not show that the model uses it there.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from arithcirc.axioms.opening.designed import Designed
from arithcirc.axioms.opening.layout import QUESTION_ROLES, Layout, layout_of, token_rows
from arithcirc.axioms.opening.linear import read_linear
from arithcirc.axioms.opening.opened import Opened
from arithcirc.measure.batches import in_batches
from arithcirc.measure.intervals import wilson

SHUFFLES = 20
TRAIN = 0.6
BATCH = 512


def probed_roles(layout: Layout) -> dict[str, int]:
    """Role -> token index: the question's roles by their last tokens, and the premise's last full stop."""
    last = {"last stop": layout.sentence(layout.sentences - 1, "stop")[-1]}
    return last | {role: layout.question(role)[-1] for role in QUESTION_ROLES}


def read_residuals(
    opened: Opened, designed: Sequence[Designed], roles: dict[str, int]
) -> Float[Tensor, "layer role prompt d_model"]:
    """Residuals before every block and after the last, at the roles' tokens."""
    tokens = token_rows([made.question for made in designed], opened.asked.known)
    where = list(roles.values())

    def run(rows: slice) -> Tensor:
        clean = opened.hooked.record(tokens[rows], parts=())
        return torch.stack([resid[:, where].transpose(0, 1).cpu() for resid in clean.resid])

    return torch.cat(list(in_batches(len(tokens), BATCH, run)), dim=2)


def reach_probes(
    opened: Opened,
    designed: Sequence[Designed],
    *,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Columns: layer, role, distance, train, test, accuracy, low, high, shuffled, shuffled_high.

    `shuffled` is the mean accuracy of SHUFFLES probes trained on shuffled labels, `shuffled_high` the best of them.
    `progress` counts layers.
    """
    roles = probed_roles(layout_of([made.question for made in designed], opened.characters))
    found = read_residuals(opened, designed, roles)
    labels = np.array([made.question.label for made in designed])
    distance = np.array([made.distance for made in designed])
    train = round(TRAIN * len(designed))
    rng = np.random.default_rng(seed)
    rows = []
    for layer in range(len(found)):
        for number, role in enumerate(roles):
            right, placebo = read_linear(found[layer, number], labels, train=train, shuffles=SHUFFLES, rng=rng)
            for length in (0, *np.unique(distance).tolist()):
                mine = right if not length else right[distance[train:] == length]
                if not len(mine):
                    continue
                interval = wilson(int(mine.sum()), len(mine))
                base = (float(placebo.mean()), float(placebo.max()))
                rows.append((layer, role, length, train, len(mine), float(mine.mean()), *interval, *base))
        if progress is not None:
            progress(1)
    columns = ["layer", "role", "distance", "train", "test", "accuracy", "low", "high", "shuffled", "shuffled_high"]
    return pd.DataFrame(rows, columns=columns)
