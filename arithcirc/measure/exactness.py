"""Is the suffix engine exact on this very model? The same patches twice, by the engine and by full hooked forwards.

A sample of heads, MLPs and neurons, in every layer and at every token but the first, is patched with the values that
other random tokens give. One side is the suffix engine. The other is a whole forward of every row in which hooks put
the same values in place: a head's `z`, a neuron's `post`, an MLP as all of its neurons' `post`. Both keep all logits:

    difference = max |engine - hooked|,   relative = difference / max |hooked|,   effect = max |hooked - clean|

over the vocabulary and the prompts. Where nothing moves, agreement shows nothing, so the share of patches whose effect
is above the largest difference is told too; the last layer's patches before the last token move nothing in any model.
Cost: patches x prompts forwards for the hooked side. What it does not show: that the hooks are right, which tests
compare with TransformerLens's own, nor that the wrapped model is the plain one, which every load checks
(models/verify.py).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor

from arithcirc.components import Component, Head, Mlp, Neuron
from arithcirc.errors import RequestError
from arithcirc.models.protocol import Activations, Edit, HookedModel
from arithcirc.models.suffix import Patch, SuffixEngine

TOLERANCE = {"float32": 1e-5, "bfloat16": 0.1, "float16": 0.02}
"""Largest relative difference that rounding explains: some times what random models of 12 layers and width 512 give (up
to 2e-6, 0.03 and 0.004). A wrong formula is off by percents, so half precision shows only large errors.
"""
_PARTS = {"z", "post", "mlp_out"}


def random_tokens(
    model: HookedModel, n_prompts: int, *, length: int = 5, seed: int = 0
) -> tuple[Int[Tensor, "prompt pos"], Int[Tensor, "prompt pos"]]:
    """Two sets of random tokens that differ everywhere but in the first, which is the tokenizer's BOS where it has one.

    Exactness does not depend on what tokens say, so no tokenizer has to fit: five are as many as a prompt has.
    """
    if length < 2 or n_prompts < 1:
        raise RequestError(f"{n_prompts} prompts of {length} tokens: give 1 prompt or more, of 2 tokens or more")
    rng, d_vocab = np.random.default_rng(seed), model.info.d_vocab
    clean = rng.integers(d_vocab, size=(n_prompts, length))
    source = (clean + rng.integers(1, d_vocab, size=clean.shape)) % d_vocab
    bos = getattr(model.tokenizer, "bos_token_id", None)
    clean[:, 0] = source[:, 0] = clean[0, 0] if bos is None else bos
    return torch.from_numpy(clean).to(model.device), torch.from_numpy(source).to(model.device)


def check_exactness(
    model: HookedModel,
    tokens: Int[Tensor, "prompt pos"],
    source_tokens: Int[Tensor, "prompt pos"],
    *,
    per_kind: int = 256,
    seed: int = 0,
    batch_size: int = 256,
    progress: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Compare engine and hooked forwards on `tokens`, patched with the values of `source_tokens`.

    About `per_kind` heads, MLPs and neurons each are drawn, spread evenly over layers and tokens: at least one per
    layer and token, and all of them where there are no more. A row of the table is a kind at a token: `kind`, `token`,
    `patches`, `prompts`, `difference` (in logits), `largest_logit`, `relative`, `moved` (share of patches),
    `engine_seconds` and `hooked_seconds`, without the one clean run that all rows share. `progress` counts patches.
    """
    rng, rows = np.random.default_rng(seed), []
    engine, source = SuffixEngine(model, tokens, parts=_PARTS), model.activations(source_tokens, parts=_PARTS)
    per_batch = max(1, batch_size // len(tokens))
    for kind, width in (("head", model.info.n_heads), ("mlp", 1), ("neuron", model.info.d_mlp)):
        for index in range(1, engine.n_pos):
            engine.window(index, engine.n_pos - index)  # recorded once for a model, so not part of the time
            patches = _drawn(kind, width, index, model.info.n_layers, per_kind // (engine.n_pos - 1), rng)
            found = []
            for first in range(0, len(patches), per_batch):
                found.append(_compared(engine, patches[first : first + per_batch], source, batch_size))
                if progress is not None:
                    progress(len(found[-1].effects))
            rows.append({"kind": kind, "token": index, "prompts": len(tokens)} | _row(found))
    return pd.DataFrame(rows)


def n_patches(model: HookedModel, length: int, *, per_kind: int) -> int:
    """How many patches `check_exactness` compares on prompts of this length."""
    info, n_tokens = model.info, length - 1
    each = [_per_layer(width, info.n_layers, per_kind // n_tokens) for width in (info.n_heads, 1, info.d_mlp)]
    return sum(each) * info.n_layers * n_tokens


def _per_layer(width: int, n_layers: int, wanted: int) -> int:
    """Components of a layer to take at one token, for about this many in all layers."""
    return min(width, max(1, wanted // n_layers))


def _drawn(kind: str, width: int, index: int, n_layers: int, wanted: int, rng: np.random.Generator) -> list[Patch]:
    """Patches of one kind at one token, from the lowest layer up."""
    chosen: list[Component] = []
    for layer in range(n_layers):
        picked = np.sort(rng.choice(width, _per_layer(width, n_layers, wanted), replace=False)).tolist()
        chosen += [Mlp(layer) if kind == "mlp" else (Head if kind == "head" else Neuron)(layer, i) for i in picked]
    return [Patch(component, index) for component in chosen]


@dataclass(frozen=True)
class _Compared:
    """Some patches of one kind, both ways."""

    differences: Float[np.ndarray, "patch"]
    effects: Float[np.ndarray, "patch"]
    largest: float
    engine_seconds: float
    hooked_seconds: float


def _compared(engine: SuffixEngine, patches: list[Patch], source: Activations, batch_size: int) -> _Compared:
    ours, engine_seconds = _timed(lambda: engine.run(patches, source, lambda x, _: x, batch_size=batch_size))
    theirs, hooked_seconds = _timed(lambda: _hooked(engine.model, engine.clean.tokens, patches, source))
    differences, effects = ((theirs - x).abs().amax((1, 2)).cpu().numpy() for x in (ours, engine.clean.logits))
    return _Compared(differences, effects, float(theirs.abs().max()), engine_seconds, hooked_seconds)


def _row(found: list[_Compared]) -> dict[str, float | int]:
    """Batches of one kind and token as one row."""
    effects = np.concatenate([f.effects for f in found])
    difference = float(max(f.differences.max() for f in found))
    largest = max(f.largest for f in found)
    return {
        "patches": len(effects),
        "difference": difference,
        "largest_logit": largest,
        "relative": difference / max(largest, 1e-30),
        "moved": float((effects > difference).mean()),
        "engine_seconds": sum(f.engine_seconds for f in found),
        "hooked_seconds": sum(f.hooked_seconds for f in found),
    }


def _timed(run: Callable[[], Tensor]) -> tuple[Float[Tensor, "patch prompt vocab"], float]:
    """A result and the seconds it took, the accelerator's included."""
    _wait()
    start = time.perf_counter()
    result = run()
    _wait()
    return result, time.perf_counter() - start


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _hooked(
    model: HookedModel, tokens: Int[Tensor, "prompt pos"], patches: Sequence[Patch], source: Activations
) -> Float[Tensor, "patch prompt vocab"]:
    """Whole forwards of (patch, prompt) rows, each with its own value put in place."""
    rows = repeat(tokens, "prompt pos -> (patch prompt) pos", patch=len(patches))
    logits = model.logits(rows, edit=_putting(patches, source, len(tokens)))
    return rearrange(logits, "(patch prompt) vocab -> patch prompt vocab", prompt=len(tokens))


def _putting(patches: Sequence[Patch], source: Activations, n_prompts: int) -> Edit:
    """An edit that replaces each row's component by its value in the source."""

    def mine(part: str, layer: int) -> Iterator[tuple[int, Patch]]:
        for row, patch in enumerate(patches):
            if patch.component.layer == layer and isinstance(patch.component, Head) == (part == "z"):
                yield row, patch

    def edit(part: str, layer: int, value: Tensor) -> Tensor | None:
        if not (found := list(mine(part, layer))):
            return None
        edited = rearrange(value, "(patch prompt) ... -> patch prompt ...", prompt=n_prompts).clone()
        other: Tensor = getattr(source, part)[layer]
        for row, patch in found:
            at = patch.index
            which = slice(None) if isinstance(patch.component, Mlp) else patch.component.index
            edited[row, :, at, which] = other[:, at, which]
        return edited.flatten(0, 1)

    return edit
