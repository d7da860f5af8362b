"""Knocking out sets of neurons at `=`, exactly.

A row is (prompt, set of neurons, replacement values): on that prompt, the activations h_n of the set's neurons at the
last token are replaced, all at once, and everything downstream of them is computed anew. Nothing before `=` can see
this, so only that token is replayed, on the clean keys and values of the earlier positions, from the lowest layer in
which anything is replaced: about (n_layers - lowest) / (n_layers x n_pos) of a forward per row, and one clean forward
per prompt however many rows share it. Rows may all have different sets: a set is a list of neurons, not a mask over the
model, so its size is what it costs to hold.

    zero      h_n = 0: the neuron's value vector v_n is not written
    mean      h_n = its mean at `=` over the prompts of all operators (measure.means)
    resample  h_n = its value at `=` on another prompt

Exact up to rounding against a full forward with the same activations edited (tests: 1e-5 in float32). Later layers
react to what is missing, so a knockout mixes what the neurons wrote with what others do about it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from arithcirc.errors import RequestError
from arithcirc.measure.batches import in_batches
from arithcirc.measure.means import Means
from arithcirc.models.fit import Limit, in_halves, logit_rows
from arithcirc.models.protocol import CleanRun, HookedModel, Window

Members = Int[np.ndarray, "member 2"]
"""Neurons of a set, one (layer, neuron) per row."""
Rows = Int[np.ndarray, "row"]
Values = list[Float[Tensor, "value neuron"]]
"""Replacement activations: `values[layer][i]` are all neurons of a layer under replacement i."""
Reduce = Callable[[Float[Tensor, "row vocab"], Rows], Float[Tensor, "row metric"]]
"""`reduce(logits, rows)`: logits of these rows (indices into all rows) to the numbers kept."""


@dataclass(frozen=True)
class NeuronSets:
    """Sets of neurons of any sizes, end to end: set s is members[bounds[s] : bounds[s + 1]]."""

    bounds: Int[np.ndarray, "bound"]
    members: Members

    @classmethod
    def of(cls, sets: Sequence[Int[np.ndarray, "_ 2"]]) -> "NeuronSets":
        """Put sets end to end; a set may be empty."""
        sizes = np.array([0, *(len(s) for s in sets)], dtype=np.int64)
        members = np.concatenate([np.empty((0, 2), dtype=np.int64), *sets])
        return cls(sizes.cumsum(), members)

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @property
    def sizes(self) -> Int[np.ndarray, "set"]:
        """Neurons per set."""
        return np.diff(self.bounds)

    def lowest(self, n_layers: int) -> Int[np.ndarray, "set"]:
        """The lowest layer with a neuron in each set; n_layers for an empty one."""
        found = np.full(len(self), n_layers, dtype=np.int64)
        np.minimum.at(found, np.repeat(np.arange(len(self)), self.sizes), self.members[:, 0])
        return found

    def gather(self, sets: Rows) -> tuple[Int[np.ndarray, "entry"], Int[np.ndarray, "entry 2"]]:
        """Members of these sets, in order: (place in `sets`, (layer, neuron)) of every one."""
        sizes = self.sizes[sets]
        place = np.repeat(np.arange(len(sets)), sizes)
        within = np.arange(len(place)) - np.repeat(sizes.cumsum() - sizes, sizes)
        return place, self.members[self.bounds[sets][place] + within]

    def check(self, n_layers: int, d_mlp: int) -> None:
        """Raise RequestError for a neuron that the model does not have."""
        inside = (self.members >= 0) & (self.members < [n_layers, d_mlp])
        if not inside.all():
            layer, neuron = self.members[int(np.argmin(inside.all(1)))]
            raise RequestError(
                f"neuron L{layer}N{neuron} is not in this model: layers are 0..{n_layers - 1} and neurons "
                f"0..{d_mlp - 1}; label neurons of this model"
            )


@dataclass(frozen=True)
class Knockouts:
    """Rows to run: on prompt[i] the neurons of set neurons[i] are replaced by values[value[i]]."""

    prompt: Rows
    neurons: Rows
    value: Rows

    def __len__(self) -> int:
        return len(self.prompt)


def zero_values(model: HookedModel) -> Values:
    """One replacement: nothing is written."""
    info = model.info
    return [torch.zeros(1, info.d_mlp, device=model.device) for _ in range(info.n_layers)]


def mean_values(model: HookedModel, means: Means) -> Values:
    """One replacement: each neuron's mean at `=`."""
    return [post[-1:].to(model.device) for post in means.post]


def values_of(model: HookedModel, tokens: Int[Tensor, "prompt pos"], *, batch_size: int = 2048) -> Values:
    """Activations of all neurons at the last token of these prompts: one replacement per prompt."""

    def last(rows: slice) -> dict[int, Tensor]:
        found: dict[int, Tensor] = {}

        def see(part: str, layer: int, activation: Tensor) -> None:
            if part == "post":
                found[layer] = activation[:, -1].clone()

        model.logits(tokens[rows], edit=see)
        return found

    parts = list(in_batches(len(tokens), min(batch_size, logit_rows(model.info.d_vocab)), last))
    return [torch.cat([p[layer] for p in parts]) for layer in range(model.info.n_layers)]


def stack_values(parts: Sequence[list[Float[Tensor, "_ neuron"]]]) -> Values:
    """Replacements end to end."""
    return [torch.cat([p.float() for p in layer]) for layer in zip(*parts, strict=True)]


def knock_out(
    model: HookedModel,
    tokens: Int[Tensor, "prompt pos"],
    sets: NeuronSets,
    rows: Knockouts,
    values: Values,
    reduce: Reduce,
    *,
    batch_size: int = 2048,
    progress: Callable[[int], None] | None = None,
) -> Float[Tensor, "row metric"]:
    """Final logits of every row, reduced; at most `batch_size` rows run and `batch_size` / 8 prompts are held at once.

    What is held of a prompt is its residuals, keys and values in every layer.
    """
    sets.check(model.info.n_layers, model.info.d_mlp)
    lowest = sets.lowest(model.info.n_layers)[rows.neurons]
    found: list[Tensor] = []
    done: list[np.ndarray] = []
    limit = Limit(batch_size)

    def record(prompts: slice) -> tuple[_Replay, Rows, Rows] | None:
        """The clean run of these prompts, the rows that replay it (lowest layer first), and each one's place in it."""
        mine = np.flatnonzero((rows.prompt >= prompts.start) & (rows.prompt < prompts.stop))
        if not len(mine):
            return None
        mine = mine[np.argsort(lowest[mine], kind="stable")]
        used, place = np.unique(rows.prompt[mine], return_inverse=True)
        return _Replay(model, tokens[torch.from_numpy(used)], sets, values), mine, place

    for held in in_batches(len(tokens), max(1, batch_size // 8), record):
        if held is None:
            continue
        replay, mine, place = held
        for first in range(0, len(mine), batch_size):

            def run(tile: slice, replay: _Replay = replay, mine: Rows = mine, place: Rows = place) -> Tensor:
                return replay.run(place[tile], rows, mine[tile], int(lowest[mine[tile.start]]), reduce)

            tile = slice(first, min(first + batch_size, len(mine)))
            found.append(in_halves(run, (tile,), limit).cpu())
            done.append(mine[tile])
            if progress is not None:
                progress(tile.stop - tile.start)
    if not found:
        return reduce(torch.empty(0, model.info.d_vocab, device=model.device), np.empty(0, dtype=np.int64)).cpu()
    return torch.cat(found)[torch.from_numpy(np.argsort(np.concatenate(done)))]


class _Replay:
    """The clean run of some prompts, cut down to what replaying their last token needs."""

    def __init__(self, model: HookedModel, tokens: Int[Tensor, "prompt pos"], sets: NeuronSets, values: Values) -> None:
        self.model, self.sets, self.values = model, sets, values
        clean: CleanRun = model.record(tokens, parts=())
        self.window: Window = model.window(tokens, tokens.shape[1] - 1, 1)
        self.resid = [r[:, -1:].clone() for r in clean.resid]
        self.keys, self.values_before = clean.keys, clean.values

    def run(self, prompts: Rows, rows: Knockouts, at: Rows, lowest: int, reduce: Reduce) -> Float[Tensor, "row metric"]:
        """Replay rows `at`, of these recorded prompts, from the lowest layer that any of them edits; logits reduced."""
        resid = self._tile(prompts, rows.neurons[at], rows.value[at], lowest)[:, -1]
        found, size = [], logit_rows(self.model.info.d_vocab)
        for first in range(0, len(at), size):
            part = slice(first, first + size)
            found.append(reduce(self.model.unembed(resid[part]), at[part]))
        return torch.cat(found)

    def _tile(self, prompts: Rows, sets: Rows, value: Rows, lowest: int) -> Float[Tensor, "row 1 d_model"]:
        rows = torch.from_numpy(prompts).to(self.model.device)
        resid = self.resid[lowest][rows]
        with self.model.editing(self._edit(sets, value)):
            for layer in range(lowest, self.model.info.n_layers):
                keys, values = (cache[layer][rows, :, :-1] for cache in (self.keys, self.values_before))
                resid = self.model.block(layer, resid, self.window, keys, values)
        return resid

    def _edit(self, sets: Rows, value: Rows) -> Callable[[str, int, Tensor], Tensor | None]:
        """An edit that puts each row's replacements at the neurons of its set."""
        place, members = self.sets.gather(sets)
        by_layer = {
            int(layer): torch.from_numpy(np.stack([place[at], value[place[at]], members[at, 1]])).to(self.model.device)
            for layer in np.unique(members[:, 0])
            for at in [members[:, 0] == layer]
        }

        def edit(part: str, layer: int, activation: Tensor) -> Tensor | None:
            if part != "post" or layer not in by_layer:
                return None
            row, taken, neuron = by_layer[layer]
            edited = activation.clone()
            edited[row, 0, neuron] = self.values[layer][taken, neuron].to(edited.device, edited.dtype)
            return edited

        return edit
