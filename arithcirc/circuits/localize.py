"""Localisation: the exact effect of patching every head and MLP at every position.

Each component is patched alone, from the run on the counterfactual prompt into the run on the prompt, by the suffix
engine. Per-prompt values are kept; the table gives mean, median and standard error over prompts and counterfactual
seeds. What it does not show: components that act only together, or through each other's absence.
Source: Nikankin et al. 2024 (arXiv 2410.21272), section 2.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from arithcirc.arithmetic.pairs import Counterfactual, Pairs
from arithcirc.arithmetic.tokens import PromptEncoder
from arithcirc.components import PATCHED_POSITIONS, Component, Head, Position, Site, all_heads, all_mlps, kind
from arithcirc.measure.metrics import METRICS, patching_metrics
from arithcirc.models.protocol import HookedModel
from arithcirc.models.suffix import Patch, SuffixEngine, parts_needed

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Effects:
    """Effects of patches, per prompt: `values[site, prompt, metric]`, prompts of all seeds after each other."""

    sites: tuple[Site, ...]
    values: Float[np.ndarray, "site prompt metric"]

    def frame(self, *, operator: str, change: Counterfactual = Counterfactual.ANY) -> pd.DataFrame:
        """Rows of the table `effects`: one per site and metric."""
        n = self.values.shape[1]
        spread = self.values.std(axis=1, ddof=1) / np.sqrt(n) if n > 1 else np.full_like(self.values[:, 0], np.nan)
        frames = []
        for m, metric in enumerate(METRICS):
            frames.append(
                _labels(self.sites).assign(
                    metric=metric,
                    mean=self.values[:, :, m].mean(1),
                    median=np.median(self.values[:, :, m], axis=1),
                    sem=spread[:, m],
                    n=n,
                )
            )
        table = pd.concat(frames, ignore_index=True)
        table.insert(0, "operator", operator)
        table.insert(1, "change", change.value)
        return table


def _labels(sites: Sequence[Site]) -> pd.DataFrame:
    heads = [s.component.index if isinstance(s.component, Head) else None for s in sites]
    return pd.DataFrame(
        {
            "position": [s.position.value for s in sites],
            "layer": [s.component.layer for s in sites],
            "kind": [kind(s.component) for s in sites],
            "head": pd.array(heads, dtype="Int64"),
        }
    )


def heads_and_mlps(model: HookedModel) -> tuple[Component, ...]:
    """Every head and every MLP of the model."""
    return (*all_heads(model.info.n_layers, model.info.n_heads), *all_mlps(model.info.n_layers))


def localize(
    model: HookedModel,
    encoder: PromptEncoder,
    pairs: Sequence[Pairs],
    *,
    components: Sequence[Component] | None = None,
    positions: Sequence[Position] = PATCHED_POSITIONS,
    batch_size: int = 2048,
    progress: Progress | None = None,
) -> Effects:
    """Patch each component alone at each position, for one operator.

    `pairs` has one entry per counterfactual seed, usually the same prompts with other counterfactuals; entries with
    identical prompts share one clean run. `progress` counts (patch, prompt) rows.
    """
    chosen = tuple(components or heads_and_mlps(model))
    sites = tuple(Site(c, p) for p in positions for c in chosen)
    patches = [Patch(s.component, encoder.index(s.position)) for s in sites]
    parts = parts_needed(chosen)
    engine: SuffixEngine | None = None
    columns = []
    for entry in pairs:
        tokens = torch.from_numpy(encoder.encode(entry.clean)).to(model.device)
        if engine is None or not torch.equal(engine.clean.tokens, tokens):
            engine = SuffixEngine(model, tokens, parts=parts)
        other = torch.from_numpy(encoder.encode(entry.counterfactual)).to(model.device)
        reduce = patching_metrics(
            engine.clean.logits,
            torch.from_numpy(encoder.answers(entry.clean.answer)).to(model.device),
            torch.from_numpy(encoder.answers(entry.counterfactual.answer)).to(model.device),
        )
        source = model.activations(other, parts=parts)
        columns.append(engine.run(patches, source, reduce, batch_size=batch_size, progress=progress).cpu())
    return Effects(sites, torch.cat(columns, dim=1).numpy())
