"""Exact patches of whole roles: any positions of each prompt at once, from any layer on.

The suffix engine (models.suffix) patches one token index of all prompts. Here the tokens of a role stand elsewhere in
every prompt and may be several, so a patch is a mask over (prompt, position): the clean input of a layer is taken, the
component's output replaced where the mask says, and the layers from there on are run from the first position that
changes, attending to the clean keys and values before it. Exact up to rounding. Rows (patch, prompt) that change no
value that is read are not run. Cost of the others: (layers - layer) / layers x (positions - first) / positions of a
forward.
"""

from collections.abc import Callable
from contextlib import ExitStack

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from arithcirc.models.protocol import CleanRun, Edit, HookedModel

Read = Callable[[Float[Tensor, "*row vocab"]], Float[Tensor, "*row"]]
"""A number per row of logits."""
ROWS = 1024
"""Rows (patch, prompt) run at once."""


class Replay:
    """The clean run of some prompts, from which patches start; hold it as long as these prompts are patched."""

    def __init__(self, model: HookedModel, tokens: Int[Tensor, "prompt pos"], read: Read, *, rows: int = ROWS) -> None:
        self.model, self.read, self.rows = model, read, rows
        self.clean: CleanRun = model.record(tokens, parts=("z", "post", "pattern"))
        self.margin = read(self.clean.logits)

    def residual(
        self, layer: int, other: Float[Tensor, "prompt pos d_model"], where: Bool[Tensor, "patch prompt pos"]
    ) -> Float[Tensor, "patch prompt"]:
        """Patch the input of block `layer` (n_layers: the final residual) where the masks say."""
        clean = self.clean.resid[layer]

        def run(prompts: Tensor, masks: Tensor, start: int) -> Tensor:
            rows = torch.where(masks[..., None], other[prompts, start:], clean[prompts, start:])
            return self._from(layer, rows, prompts, start, None)

        return self._replayed(run, where, (other != clean).any(-1), last_only=layer == self.model.info.n_layers)

    def heads(
        self, layer: int, other: Float[Tensor, "prompt pos head d_head"], where: Bool[Tensor, "patch prompt pos head"]
    ) -> Float[Tensor, "patch prompt"]:
        """Patch the output z of heads of a layer where the masks say."""
        return self._patched("z", layer, other, self.clean.activations.z[layer], where)

    def mlp(
        self, layer: int, other: Float[Tensor, "prompt pos neuron"], where: Bool[Tensor, "patch prompt pos"]
    ) -> Float[Tensor, "patch prompt"]:
        """Patch the activations of a layer's MLP where the masks say."""
        return self._patched("post", layer, other, self.clean.activations.post[layer], where)

    def _patched(
        self, part: str, layer: int, other: Tensor, clean: Tensor, where: Bool[Tensor, "patch prompt pos ..."]
    ) -> Float[Tensor, "patch prompt"]:
        """Patch what a part of a layer puts out; in the last layer only the last position is read."""

        def run(prompts: Tensor, masks: Tensor, start: int) -> Tensor:
            values = torch.where(masks[..., None], other[prompts, start:], clean[prompts, start:])

            def edit(of: str, at: int, _: Tensor) -> Tensor | None:
                return values if of == part and at == layer else None

            return self._from(layer, self.clean.resid[layer][prompts, start:], prompts, start, edit)

        return self._replayed(run, where, (other != clean).any(-1), last_only=layer == self.model.info.n_layers - 1)

    def _replayed(
        self,
        run: Callable[[Tensor, Tensor, int], Tensor],
        where: Bool[Tensor, "patch prompt pos ..."],
        differs: Bool[Tensor, "prompt pos ..."],
        *,
        last_only: bool,
    ) -> Float[Tensor, "patch prompt"]:
        """Run the (patch, prompt) rows that change a value that is read, by their first such position."""
        acting = where.to(differs.device) & differs
        changed = acting.flatten(3).any(3) if acting.dim() > 3 else acting
        acts = changed[..., -1] if last_only else changed.any(-1)
        first = changed.int().argmax(-1)
        found = self.margin.expand(len(where), -1).clone()
        for start in sorted(set(first[acts].tolist())):
            for some in torch.split((acts & (first == start)).nonzero(), self.rows):
                patch, prompt = some.unbind(1)
                found[patch.cpu(), prompt.cpu()] = run(prompt, acting[patch, prompt][:, start:], start)
        return found

    @torch.no_grad()
    def _from(
        self, layer: int, rows: Float[Tensor, "row window d_model"], prompts: Tensor, start: int, edit: Edit | None
    ) -> Float[Tensor, "row"]:
        """The margin of rows of these prompts, as block `layer` reads them from `start` on; `edit` acts in it alone."""
        tokens = self.clean.tokens
        window = self.model.window(tokens, start, tokens.shape[1] - start)
        for at in range(layer, self.model.info.n_layers):
            keys, values = (cache[at][prompts, :, :start] for cache in (self.clean.keys, self.clean.values))
            with ExitStack() as stack:
                if edit is not None and at == layer:
                    stack.enter_context(self.model.editing(edit))
                rows = self.model.block(at, rows, window, keys, values)
        return self.read(self.model.unembed(rows[:, -1]))


def ratio(numerator: Float[Tensor, "prompt"], denominator: Float[Tensor, "prompt"]) -> tuple[float, float]:
    """Ratio of means and its standard error by the delta method; NaN without prompts or where the mean is 0."""
    n, below = len(numerator), float(denominator.mean()) if len(denominator) else 0.0
    if not below:
        return float("nan"), float("nan")
    value = float(numerator.mean()) / below
    if n < 2:
        return value, float("nan")
    return value, float((numerator - value * denominator).std() / n**0.5 / abs(below))
