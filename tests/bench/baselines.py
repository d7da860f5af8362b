"""What the suffix engine is measured against: the loops people write, as fast as they can fairly be made.

- `plain_loop`: one full TransformerBridge forward with a hook for every component and position; clean and
  counterfactual activations computed once.
- `hook_loop`: the same on the bare Hugging Face network with PyTorch hooks, without the bridge's own overhead.
- `reference_loop`: what the paper's released code does: both sets of activations again for every component and
  position. It runs on the bare network and keeps only what it needs, which is faster than caching everything.

- `plain_neuron_loop`, `hook_neuron_loop`: one full hooked forward per neuron, on the bridge and on the bare network, as
  the paper's released code would have to do for exact effects of neurons.

All return patched logits, (site, prompt, vocab) reduced by the same function as ours, so results can be compared.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from arithcirc.components import Head, Mlp, Neuron
from arithcirc.models.bridge import BridgedModel
from arithcirc.models.suffix import Patch

Reduce = Callable[[Tensor, slice], Tensor]


def _all(tokens: Tensor) -> slice:
    return slice(0, len(tokens))


@torch.no_grad()
def plain_loop(model: BridgedModel, clean: Tensor, other: Tensor, patches: Sequence[Patch], reduce: Reduce) -> Tensor:
    """One hooked TransformerBridge forward per patch."""
    names = {f"blocks.{i}.{part}" for i in range(model.info.n_layers) for part in ("attn.hook_z", "mlp.hook_out")}
    _, cache = model.bridge.run_with_cache(other, names_filter=lambda name: name in names)
    out = []
    for patch in patches:
        layer = patch.component.layer
        name = f"blocks.{layer}." + ("attn.hook_z" if isinstance(patch.component, Head) else "mlp.hook_out")
        value = cache[name]

        def hook(activation: Tensor, hook: object, patch: Patch = patch, value: Tensor = value) -> Tensor:
            edited = activation.clone()
            if isinstance(patch.component, Head):
                width = model.info.d_head
                part = slice(patch.component.index * width, (patch.component.index + 1) * width)
                edited.view(*edited.shape[:2], -1)[:, patch.index, part] = value.reshape(*edited.shape[:2], -1)[
                    :, patch.index, part
                ]
            else:
                edited[:, patch.index] = value[:, patch.index]
            return edited

        logits = model.bridge.run_with_hooks(clean, fwd_hooks=[(name, hook)])
        out.append(reduce(logits[None, :, -1].float(), _all(clean))[0])
    return torch.stack(out)


class BareNetwork:
    """A Hugging Face GPT-NeoX with PyTorch hooks: no bridge, fused attention."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.layers = network.gpt_neox.layers
        self.width = self.layers[0].attention.head_size

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits at the last position."""
        return self.network(tokens, use_cache=False, logits_to_keep=1).logits[:, -1].float()

    def capture(self, tokens: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """z (flat) and MLP output of every layer."""
        z: list[Tensor] = []
        mlp: list[Tensor] = []
        handles = []
        for layer in self.layers:
            handles.append(layer.attention.dense.register_forward_pre_hook(lambda _, a: z.append(a[0])))
            handles.append(layer.mlp.register_forward_hook(lambda _, __, o: mlp.append(o)))
        try:
            self.forward(tokens)
        finally:
            for handle in handles:
                handle.remove()
        return z, mlp

    def patched(self, tokens: Tensor, patch: Patch, z: list[Tensor], mlp: list[Tensor]) -> Tensor:
        """Logits with one component at one position taken from the captured activations."""
        layer, index, component = patch.component.layer, patch.index, patch.component

        def replace_z(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            edited = arguments[0].clone()
            part = slice(component.index * self.width, (component.index + 1) * self.width)
            edited[:, index, part] = z[layer][:, index, part]
            return (edited,)

        def replace_mlp(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor:
            edited = output.clone()
            edited[:, index] = mlp[layer][:, index]
            return edited

        if isinstance(component, Mlp):
            handle = self.layers[layer].mlp.register_forward_hook(replace_mlp)
        else:
            handle = self.layers[layer].attention.dense.register_forward_pre_hook(replace_z)
        try:
            return self.forward(tokens)
        finally:
            handle.remove()


@torch.no_grad()
def hook_loop(bare: BareNetwork, clean: Tensor, other: Tensor, patches: Sequence[Patch], reduce: Reduce) -> Tensor:
    """One hooked forward of the bare network per patch."""
    z, mlp = bare.capture(other)
    return torch.stack([reduce(bare.patched(clean, p, z, mlp)[None], _all(clean))[0] for p in patches])


@torch.no_grad()
def reference_loop(bare: BareNetwork, clean: Tensor, other: Tensor, patches: Sequence[Patch], reduce: Reduce) -> Tensor:
    """As the released code: clean and counterfactual activations again for every patch."""
    out = []
    for patch in patches:
        bare.capture(clean)
        z, mlp = bare.capture(other)
        out.append(reduce(bare.patched(clean, patch, z, mlp)[None], _all(clean))[0])
    return torch.stack(out)


# -- single neurons ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def plain_neuron_loop(
    model: BridgedModel, clean: Tensor, post: Sequence[Tensor], patches: Sequence[Patch], reduce: Reduce
) -> Tensor:
    """One hooked TransformerBridge forward per neuron; `post[layer]` are the counterfactual's activations."""
    out = []
    for patch in patches:
        value = _neuron_value(patch, post)

        def hook(activation: Tensor, hook: object, patch: Patch = patch, value: Tensor = value) -> Tensor:
            edited = activation.clone()
            edited[:, patch.index, patch.component.index] = value
            return edited

        name = f"blocks.{patch.component.layer}.mlp.hook_post"
        logits = model.bridge.run_with_hooks(clean, fwd_hooks=[(name, hook)])
        out.append(reduce(logits[None, :, -1].float(), _all(clean))[0])
    return torch.stack(out)


@torch.no_grad()
def hook_neuron_loop(
    bare: BareNetwork, clean: Tensor, post: Sequence[Tensor], patches: Sequence[Patch], reduce: Reduce
) -> Tensor:
    """One hooked forward of the bare network per neuron."""
    out = []
    for patch in patches:
        value = _neuron_value(patch, post)

        def replace_post(
            _: nn.Module, arguments: tuple[Tensor, ...], patch: Patch = patch, value: Tensor = value
        ) -> tuple[Tensor, ...]:
            edited = arguments[0].clone()
            edited[:, patch.index, patch.component.index] = value
            return (edited,)

        handle = bare.layers[patch.component.layer].mlp.dense_4h_to_h.register_forward_pre_hook(replace_post)
        try:
            out.append(reduce(bare.forward(clean)[None], _all(clean))[0])
        finally:
            handle.remove()
    return torch.stack(out)


def _neuron_value(patch: Patch, post: Sequence[Tensor]) -> Tensor:
    if not isinstance(patch.component, Neuron):
        raise TypeError(f"{patch.component} is not a neuron")
    return post[patch.component.layer][:, patch.index, patch.component.index]
