"""In which order a neuron's labels are told: what chance does not explain first, then by the chance-corrected score.

The corrected score is (score - b) / (1 - b) with the base rate b: 0 by chance, 1 at best. Raw scores favour heuristics
that hold of many prompts.
"""

import numpy as np
import pandas as pd

from arithcirc.viz.frames import flags, numbers


def best_first(labels: pd.DataFrame) -> pd.DataFrame:
    """Significant labels, then those at the threshold, then others; each by corrected score, then by name."""
    score, base = numbers(labels, ["score", "base_rate"]).T
    base = np.nan_to_num(base)
    fit = (score - base) / np.where(base < 1, 1 - base, np.inf)
    names = labels["heuristic"].astype(str).to_numpy(dtype=str)
    order = np.lexsort((names, -fit, ~flags(labels, "matched"), ~flags(labels, "significant")))
    return labels.iloc[order].reset_index(drop=True)
