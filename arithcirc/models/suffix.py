"""Exact activation patching by replaying suffixes.

Patching a component at (layer l, position p) changes the residual stream there by an additive delta and nothing before
it: positions < p and layers <= l stay clean. An exact patch therefore needs only the layers above l and the positions
from p on, attending to the clean keys and values of the prefix. Patches at the same position share one replay: the
batch starts with the patches of the lowest layer and grows by those of layer l when block l + 1 is about to run, so
every block is called once per tile however many patches there are. An MLP is not run where its output is known to be
clean or is read by nothing (the last block before the last position), and patches that change no value are not run.

    delta of a head       (z' - z) W_O[h]          enters after the block (parallel residual), or
                                                    before the block's own MLP (sequential: the block is replayed at p)
    delta of an MLP       out(x') - out(x)         enters after the block
    delta of a neuron     (a' - a) v_n             enters after the block (through the norm after the MLP, if any)

Cost per patch and prompt: about (n_layers - l) / n_layers x (n_pos - p) / n_pos of a forward, against one whole forward
for a hooked run. Exact up to rounding (tests: 1e-5 in float32). Single patches only: a joint patch of components in
different layers is not additive, use `measure.interventions` for those.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor

from arithcirc.components import Component, Head, Mlp, Neuron
from arithcirc.errors import RequestError
from arithcirc.models.fit import Limit, in_halves, logit_rows
from arithcirc.models.protocol import Activations, CleanRun, HookedModel, KnownMlp, Window

Reduce = Callable[[Float[Tensor, "patch prompt vocab"], slice], Float[Tensor, "patch prompt metric"]]
"""`reduce(logits, prompts)`: patched logits of some patches on `prompts` (a slice of all prompts) to numbers kept."""


@dataclass(frozen=True)
class Patch:
    """A component at a token index."""

    component: Component
    index: int


_READS = {Head: "z", Mlp: "mlp_out", Neuron: "post"}


def parts_needed(components: Sequence[Component]) -> set[str]:
    """Which activations patches of these components read."""
    return {_READS[type(c)] for c in components}


class SuffixEngine:
    """Replays suffixes of the clean run of some prompts; hold it as long as these prompts are patched."""

    def __init__(self, model: HookedModel, tokens: Int[Tensor, "prompt pos"], *, parts: set[str]) -> None:
        self.model = model
        self.clean: CleanRun = model.record(tokens, parts={*parts, "mlp_out"})
        self.n_prompts, self.n_pos = tokens.shape
        self._limit = Limit(sys.maxsize)

    def hold(self, part: str, layers: range) -> None:
        """Have the clean values of a part in these layers only, for models too wide to hold them all at once."""
        found = self.model.activations(self.clean.tokens, parts={part}, layers=layers)
        held = replace(self.clean.activations, **{part: getattr(found, part)})
        self.clean = replace(self.clean, activations=held)

    def run(
        self,
        patches: Sequence[Patch],
        source: Activations,
        reduce: Reduce,
        *,
        batch_size: int,
        progress: Callable[[int], None] | None = None,
    ) -> Float[Tensor, "patch prompt metric"]:
        """Patch each component from `source` (same prompts, same positions) and reduce the final logits.

        At most `batch_size` rows (patch x prompt) are in flight; out of memory halves that and goes on. Patches that
        change no value, or whose effect cannot reach the last position, get the clean logits. `progress` is told of
        rows as they are done.
        """
        for index in {p.index for p in patches}:
            self._check_position(index)
        results: list[Tensor | None] = [None] * len(patches)
        changes = self._changes(patches, source)
        unread = [i for i, p in enumerate(patches) if self._unread(p) or not changes[i]]
        if unread:
            clean = reduce(self.clean.logits[None], slice(0, self.n_prompts))[0]
            for i in unread:
                results[i] = clean
            if progress is not None:
                progress(len(unread) * self.n_prompts)
        read = [i for i in range(len(patches)) if results[i] is None]
        order = sorted(read, key=lambda i: (patches[i].index, patches[i].component.layer))
        for index, group in groupby(order, key=lambda i: patches[i].index):
            members = list(group)
            for tile, value in self._tiles([patches[i] for i in members], index, source, reduce, batch_size, progress):
                for i, row in zip(members[tile], value, strict=True):
                    results[i] = row
        return torch.stack([r for r in results if r is not None])

    def _unread(self, patch: Patch) -> bool:
        """The last layer's outputs before the last position are read by nothing: the logits stay clean."""
        return patch.component.layer == self.model.info.n_layers - 1 and 0 < patch.index < self.n_pos - 1

    def _changes(self, patches: Sequence[Patch], source: Activations) -> list[bool]:
        """False where the source has the clean value on every prompt, as the first MLP has after an equal token."""
        found: dict[tuple[type[Component], int, int], list[bool]] = {}
        out = []
        for patch in patches:
            component, index = patch.component, patch.index
            key = (type(component), component.layer, index)
            if key not in found:
                found[key] = self._differs(component, index, source)
            out.append(found[key][0 if isinstance(component, Mlp) else component.index])
        return out

    def _differs(self, like: Component, index: int, source: Activations) -> list[bool]:
        """For each component of this one's kind and layer (one for an MLP): does any prompt's value differ?"""
        part = _READS[type(like)]
        if self.clean.logits.is_meta:  # shapes without values, for counting: everything differs
            return [True] * (self.model.info.d_mlp if isinstance(like, Neuron) else self.model.info.n_heads)
        clean, other = (getattr(a, part)[like.layer][:, index] for a in (self.clean.activations, source))
        differs = (clean != other).any(0)
        if not isinstance(like, Neuron):
            differs = differs.any(-1, keepdim=isinstance(like, Mlp))
        found: list[bool] = differs.tolist()
        return found

    # -- tiles ----------------------------------------------------------------------------------------------------

    def _tiles(
        self,
        patches: list[Patch],
        index: int,
        source: Activations,
        reduce: Reduce,
        batch_size: int,
        progress: Callable[[int], None] | None,
    ) -> Iterator[tuple[slice, Tensor]]:
        """Cut (patches x prompts) at one position into tiles of at most batch_size rows and run each."""
        prompts_per_tile = max(1, min(self.n_prompts, batch_size))
        patches_per_tile = max(1, batch_size // prompts_per_tile)

        def run(some: slice, prompts: slice) -> Tensor:
            return self._tile(patches[some], index, prompts, source, reduce)

        for first in range(0, len(patches), patches_per_tile):
            tile = slice(first, min(first + patches_per_tile, len(patches)))
            columns = []
            for start in range(0, self.n_prompts, prompts_per_tile):
                prompts = slice(start, min(start + prompts_per_tile, self.n_prompts))
                columns.append(in_halves(run, (tile, prompts), self._limit))
                if progress is not None:
                    progress((tile.stop - tile.start) * (prompts.stop - prompts.start))
            yield tile, torch.cat(columns, dim=1)

    def _tile(
        self, patches: list[Patch], index: int, prompts: slice, source: Activations, reduce: Reduce
    ) -> Float[Tensor, "patch prompt metric"]:
        """Replay patches (ascending by layer) at one position on one slice of prompts."""
        n_layers = self.model.info.n_layers
        n_prompts = prompts.stop - prompts.start
        window = self.window(index, self.n_pos - index)
        resid = self.clean.resid[0].new_empty(len(patches), n_prompts, window.length, self.model.info.d_model)
        filled = old = 0
        for layer in range(patches[0].component.layer, n_layers):
            if filled:
                known = self._known_mlp(layer, resid[:filled], old, window, prompts)
                resid[:filled] = self._block(layer, resid[:filled], window, prompts, known)
            added = [p for p in patches[filled:] if p.component.layer == layer]
            old = filled
            if added:
                rows = resid[filled : filled + len(added)]
                rows[:] = self.clean.resid[layer + 1][prompts, index:]
                rows[:, :, 0] = self._patched_output(layer, index, added, prompts, source)
                filled += len(added)
        return self._reduced(resid[:, :, -1], prompts, reduce)

    def _reduced(
        self, resid: Float[Tensor, "patch prompt d_model"], prompts: slice, reduce: Reduce
    ) -> Float[Tensor, "patch prompt metric"]:
        """Reduced logits, of few enough patches at a time that the logits never fill memory."""
        found = []
        for part in torch.split(resid, max(1, logit_rows(self.model.info.d_vocab) // resid.shape[1])):
            logits = self.model.unembed(rearrange(part, "patch prompt d_model -> (patch prompt) d_model"))
            found.append(
                reduce(rearrange(logits, "(patch prompt) vocab -> patch prompt vocab", patch=len(part)), prompts)
            )
        return torch.cat(found)

    def _known_mlp(self, layer: int, resid: Tensor, old: int, window: Window, prompts: slice) -> KnownMlp | None:
        """Where this block's MLP must run. None: everywhere.

        In the last block only the last position is read. With a parallel residual the MLP reads the block's input,
        which for patches made in the block below (all but the `old` ones) still is clean behind the patched position.
        """
        needed = torch.ones(resid.shape[0], window.length, dtype=torch.bool)  # on the CPU: its places must be known
        if layer == self.model.info.n_layers - 1:
            needed[:, :-1] = False
        if self.model.info.parallel:
            needed[old:, 1:] = False
        if bool(needed.all()):
            return None
        clean = self.clean.activations.mlp_out[layer][prompts, window.start :]
        n_prompts = resid.shape[1]
        run = needed.repeat_interleave(n_prompts, dim=0).flatten().nonzero()[:, 0]
        return KnownMlp(run.to(resid.device), clean.unsqueeze(0).expand(resid.shape).flatten(0, 1))

    def _block(
        self, layer: int, resid: Tensor, window: Window, prompts: slice, known: KnownMlp | None = None
    ) -> Tensor:
        """One block on (patch, prompt) rows, with each prompt's clean prefix."""
        before = slice(0, window.start)
        keys, values = (cache[layer][prompts, :, before] for cache in (self.clean.keys, self.clean.values))
        rows = rearrange(resid, "patch prompt window d_model -> (patch prompt) window d_model")
        rows = self.model.block(layer, rows, window, keys, values, known_mlp=known)
        return rearrange(rows, "(patch prompt) window d_model -> patch prompt window d_model", prompt=resid.shape[1])

    # -- deltas ---------------------------------------------------------------------------------------------------

    def _patched_output(
        self, layer: int, index: int, patches: list[Patch], prompts: slice, source: Activations
    ) -> Float[Tensor, "patch prompt d_model"]:
        """Output of block `layer` at `index` with each patch applied; patches are all of this layer."""
        clean_output = self.clean.resid[layer + 1][prompts, index]
        outputs = []
        for kind, group in groupby(patches, key=lambda p: type(p.component)):
            components = [p.component for p in group]
            if kind is Head and not self.model.info.parallel:
                outputs.append(self._replayed_heads(layer, index, components, prompts, source))
            else:
                outputs.append(clean_output + self._delta(layer, index, components, prompts, source))
        return torch.cat(outputs)

    def _delta(
        self, layer: int, index: int, components: Sequence[Component], prompts: slice, source: Activations
    ) -> Float[Tensor, "patch prompt d_model"]:
        """What each component's patch adds to the residual stream after the block."""
        first = components[0]
        if isinstance(first, Mlp):
            clean, other = self.clean.activations.mlp_out[layer], source.mlp_out[layer]
            delta = other[prompts, index] - clean[prompts, index]
            return delta.unsqueeze(0).expand(len(components), *delta.shape)
        ids = torch.tensor([c.index for c in components if not isinstance(c, Mlp)]).to(self.model.device)
        if isinstance(first, Head):
            z = (source.z[layer][prompts, index] - self.clean.activations.z[layer][prompts, index])[:, ids]
            return einsum(
                z, self.model.w_o(layer)[ids], "prompt head d_head, head d_head d_model -> head prompt d_model"
            )
        post = self.clean.activations.post[layer][prompts, index]
        change = (source.post[layer][prompts, index] - post)[:, ids]
        return self.model.neuron_deltas(layer, post, ids, change)

    def _replayed_heads(
        self, layer: int, index: int, heads: Sequence[Component], prompts: slice, source: Activations
    ) -> Float[Tensor, "patch prompt d_model"]:
        """Block `layer` at one position with each head's z replaced: the delta passes through the block's own MLP."""
        ids = [h.index for h in heads if isinstance(h, Head)]
        values = source.z[layer][prompts, index]
        resid = self.clean.resid[layer][prompts, index : index + 1]

        def replace(part: str, at: int, activation: Tensor) -> Tensor | None:
            if part != "z" or at != layer:
                return None
            edited = activation.reshape(len(ids), len(resid), *activation.shape[1:]).clone()
            for row, head in enumerate(ids):
                edited[row, :, 0, head] = values[:, head]
            return edited

        rows = resid.unsqueeze(0).expand(len(ids), *resid.shape)
        window = self.window(index, 1)
        with self.model.editing(replace):
            return self._block(layer, rows, window, prompts)[:, :, 0]

    def window(self, start: int, length: int) -> Window:
        """The blocks' arguments at [start, start + length)."""
        self._check_position(start)
        return self.model.window(self.clean.tokens, start, length)

    def _check_position(self, index: int) -> None:
        if not 0 < index < self.n_pos:
            raise RequestError(f"patches start at positions 1..{self.n_pos - 1}; position {index} was asked")
