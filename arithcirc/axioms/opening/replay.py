"""Exact patches of whole roles: any positions of each prompt at once, from any layer on.

The suffix engine (models.suffix) patches one token index of all prompts. Here the tokens of a role stand elsewhere in
every prompt and may be several, so a patch is a mask over (prompt, position): the clean input of a layer is taken, the
component's output replaced where the mask says, and the layers from there on are run at all positions. Exact up to
rounding; the layers below are clean whatever is patched. Cost per patch and prompt: (layers - layer) / layers of a
forward.
"""

from collections.abc import Callable
from contextlib import ExitStack

import torch
from einops import rearrange
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
        self._window = model.window(tokens, 0, tokens.shape[1])

    def residual(
        self, layer: int, other: Float[Tensor, "prompt pos d_model"], where: Bool[Tensor, "patch prompt pos"]
    ) -> Float[Tensor, "patch prompt"]:
        """Patch the input of block `layer` (n_layers: the final residual) where the masks say."""
        clean = self.clean.resid[layer]

        def run(masks: Tensor) -> Tensor:
            return self._from(layer, torch.where(masks[..., None], other, clean), None)

        return self._changed(run, where, (other != clean).any(-1))

    def heads(
        self, layer: int, other: Float[Tensor, "prompt pos head d_head"], where: Bool[Tensor, "patch prompt pos head"]
    ) -> Float[Tensor, "patch prompt"]:
        """Patch the output z of heads of a layer where the masks say."""
        clean = self.clean.activations.z[layer]

        def run(masks: Tensor) -> Tensor:
            return self._edited(layer, "z", torch.where(masks[..., None], other, clean))

        return self._changed(run, where, (other != clean).any(-1))

    def mlp(
        self, layer: int, other: Float[Tensor, "prompt pos neuron"], where: Bool[Tensor, "patch prompt pos"]
    ) -> Float[Tensor, "patch prompt"]:
        """Patch the activations of a layer's MLP where the masks say."""
        clean = self.clean.activations.post[layer]

        def run(masks: Tensor) -> Tensor:
            return self._edited(layer, "post", torch.where(masks[..., None], other, clean))

        return self._changed(run, where, (other != clean).any(-1))

    def _edited(self, layer: int, part: str, values: Float[Tensor, "patch prompt pos ..."]) -> Tensor:
        flat = values.flatten(0, 1)

        def edit(of: str, at: int, _: Tensor) -> Tensor | None:
            return flat if of == part and at == layer else None

        resid = self.clean.resid[layer]
        return self._from(layer, resid.expand(len(values), *resid.shape), edit)

    def _changed(
        self, run: Callable[[Tensor], Tensor], where: Bool[Tensor, "patch ..."], differs: Bool[Tensor, "prompt ..."]
    ) -> Float[Tensor, "patch prompt"]:
        """Run the patches that change a value, so many at once; the others leave the margin clean."""
        where = where.to(differs.device)
        found = self.margin.expand(len(where), -1).clone()
        changing = (where & differs).flatten(1).any(1).nonzero()[:, 0]
        for some in torch.split(changing, max(1, self.rows // len(self.margin))):
            found[some.cpu()] = run(where[some])
        return found

    @torch.no_grad()
    def _from(self, layer: int, resid: Float[Tensor, "patch prompt pos d_model"], edit: Edit | None) -> Tensor:
        """The margin of rows whose block `layer` reads `resid`; `edit` acts in that block alone."""
        shape = resid.shape[:2]
        rows = rearrange(resid, "patch prompt pos d -> (patch prompt) pos d")
        for at in range(layer, self.model.info.n_layers):
            keys, values = (cache[at][:, :, :0] for cache in (self.clean.keys, self.clean.values))
            with ExitStack() as stack:
                if edit is not None and at == layer:
                    stack.enter_context(self.model.editing(edit))
                rows = self.model.block(at, rows, self._window, keys, values)
        return self.read(self.model.unembed(rows[:, -1])).reshape(shape)


def ratio(numerator: Float[Tensor, "prompt"], denominator: Float[Tensor, "prompt"]) -> tuple[float, float]:
    """Ratio of means and its standard error by the delta method; NaN without prompts or where the mean is 0."""
    n, below = len(numerator), float(denominator.mean()) if len(denominator) else 0.0
    if not below:
        return float("nan"), float("nan")
    value = float(numerator.mean()) / below
    if n < 2:
        return value, float("nan")
    return value, float((numerator - value * denominator).std() / n**0.5 / abs(below))
