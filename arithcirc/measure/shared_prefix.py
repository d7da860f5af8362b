"""Answers to very many prompts of few first operands: what they share is run once.

Prompts with the same op1 and operator agree in every token before op2, so these tokens are run once for all of them and
only op2 and `=` are replayed on their keys and values: exact up to rounding, and about 2/5 of the forwards. Worth it
where all legal prompts are swept, as in the search for the few that a good model gets wrong.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Int

from arithcirc.arithmetic.operators import Prompts
from arithcirc.arithmetic.tokens import PromptEncoder
from arithcirc.components import Position
from arithcirc.models.protocol import HookedModel


@torch.no_grad()
def predictions(
    model: HookedModel,
    encoder: PromptEncoder,
    prompts: Prompts,
    *,
    batch_size: int = 2048,
    progress: Callable[[int], None] | None = None,
) -> Int[np.ndarray, "prompt"]:
    """Most likely token id for each prompt, as `measure.answers.predictions` gives them."""
    tokens = torch.from_numpy(encoder.encode(prompts)).to(model.device)
    start = encoder.index(Position.OP2)
    window = None
    out = [np.empty(0, dtype=np.int64)]
    for first in range(0, len(tokens), batch_size):
        rows = tokens[first : first + batch_size]
        prefixes, which = torch.unique(rows[:, :start], dim=0, return_inverse=True)
        clean = model.record(prefixes, parts=())
        window = window or model.window(rows, start, encoder.length - start)
        resid = model.embed(rows, start)
        for layer in range(model.info.n_layers):
            keys, values = (cache[layer][which] for cache in (clean.keys, clean.values))
            resid = model.block(layer, resid, window, keys, values)
        out.append(model.unembed(resid[:, -1]).argmax(-1).cpu().numpy())
        if progress is not None:
            progress(len(rows))
    return np.concatenate(out)
