"""HookedModel over TransformerLens's TransformerBridge.

The bridge gives one set of names to every Hugging Face decoder: `blocks[l].attn.o` reads `z`, `blocks[l].mlp.out` reads
`post`. Edits and captures are forward hooks on these modules, removed on leaving the context. A block is replayed by
calling the bridge's own block with the keyword arguments that a real forward gave it (rotary tables, mask, positions)
and with a cache that returns prefix + new and stores nothing, so no architecture is re-implemented here.
Weights stay raw. Norms after the MLP and soft-caps are read off the bridge and the configuration; which architectures
were compared with full forwards is said in `models.architectures`.
"""

import inspect
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import Cache, DynamicCache

from arithcirc.errors import NumericsError, RequestError
from arithcirc.models.fit import LOGIT_BYTES
from arithcirc.models.hooks import (
    first_of,
    narrowed,
    replacing_input,
    seeing_input,
    seeing_output,
    stop_after,
    stopped,
)
from arithcirc.models.norms import skip_unread_statistics
from arithcirc.models.prefix import Prefix
from arithcirc.models.protocol import (
    WAYS_OUT,
    Activations,
    BlockArguments,
    CleanRun,
    Cut,
    Edit,
    KnownMlp,
    ModelInfo,
    Objective,
    Part,
    Window,
)
from arithcirc.models.weights import by_input, scale_of


class BridgedModel:
    """A TransformerBridge behind the HookedModel protocol; build it with `arithcirc.models.load`."""

    def __init__(self, bridge: Any, tokenizer: Any, info: ModelInfo) -> None:
        self.bridge = bridge
        self.tokenizer = tokenizer
        self.info = info
        skip_unread_statistics(bridge)
        self._network: nn.Module = bridge.original_model
        self._blocks: list[nn.Module] = list(bridge.blocks)
        self._mlps: list[nn.Module] = [b.mlp for b in bridge.blocks]
        self._mlp_writers: list[nn.Module] = [b.ln2_post if info.post_norm else b.mlp for b in bridge.blocks]
        self._z_readers: list[nn.Module] = [b.attn.o for b in bridge.blocks]
        self._patterns: list[nn.Module] = [b.attn.hook_pattern for b in bridge.blocks]
        self._post_readers: list[nn.Module] = [b.mlp.out for b in bridge.blocks]
        self._windows: dict[tuple[int, int, int], Window] = {}
        config: Any = self._network.config
        self._n_positions: int | None = config.max_position_embeddings if config.model_type == "gpt2" else None
        self._keeps_last = "logits_to_keep" in inspect.signature(self._network.forward).parameters

    @property
    def device(self) -> torch.device:
        """Where tokens go in and everything comes out: the device of the embeddings, whatever device a layer is on."""
        return next(self._network.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return next(self._network.parameters()).dtype

    # -- forwards -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def logits(
        self, tokens: Int[Tensor, "prompt pos"], *, edit: Edit | None = None, cut: Cut = frozenset()
    ) -> Float[Tensor, "prompt vocab"]:
        """Float32 logits at the last position, with activations replaced by `edit` on the way. NumericsError on NaN.

        Attention along the edges in `cut` is masked out before the softmax, in every layer and head.
        """
        arguments = {"attention_mask": self._mask(tokens, cut)} if cut else {}
        with ExitStack() as stack:
            if edit is not None:
                stack.enter_context(self.editing(edit))
            return self._forward(tokens, **arguments)

    def _mask(self, tokens: Tensor, cut: Cut) -> Tensor | dict[str, Tensor]:
        """The causal mask without the edges cut, added to the scores; one per kind of layer where windows slide."""
        n_pos, seen = tokens.shape[1], self.info.sliding_window
        hidden = torch.ones(n_pos, n_pos, dtype=torch.bool, device=self.device).triu(1)
        for query, key in cut:
            hidden[query, key] = True

        def added(hidden: Tensor) -> Float[Tensor, "prompt 1 pos pos"]:
            mask = torch.zeros(n_pos, n_pos, dtype=self.dtype, device=self.device)
            return mask.masked_fill(hidden, torch.finfo(self.dtype).min).expand(len(tokens), 1, n_pos, n_pos)

        if seen is None:
            return added(hidden)
        local = added(hidden | torch.ones_like(hidden).tril(-seen))
        if getattr(self._network.config, "layer_types", None) is None:
            return local
        return {"full_attention": added(hidden), "sliding_attention": local}

    def gradients(self, tokens: Int[Tensor, "prompt pos"], objective: Objective) -> Activations:
        """Gradient of each prompt's objective by every `z` and `post`, same shapes: one forward and one backward."""
        zeros: dict[Part, list[Tensor]] = {"z": [], "post": []}

        def watch(part: Part, _: int, activation: Tensor) -> Tensor:
            zeros[part].append(torch.zeros_like(activation, requires_grad=True))
            return activation + zeros[part][-1]

        with torch.enable_grad(), self.editing(watch):
            total = objective(self._forward(tokens)).sum()
            found = torch.autograd.grad(total, [*zeros["z"], *zeros["post"]])
        n_layers = self.info.n_layers
        return Activations(dict(enumerate(found[:n_layers])), dict(enumerate(found[n_layers:])))

    @torch.no_grad()
    def activations(
        self, tokens: Int[Tensor, "prompt pos"], *, parts: Collection[str], layers: range | None = None
    ) -> Activations:
        """Outputs of components: the parts named (`z`, `post`, `mlp_out`, `pattern`) in these layers (None: all).

        Layers above the last one asked for are not run. A wide model's `post` is large: ask for a few layers at a time.
        """
        wanted = range(self.info.n_layers) if layers is None else layers
        with ExitStack() as stack:
            captured = stack.enter_context(self._capturing(parts, wanted))
            if wanted.stop < self.info.n_layers:
                stack.enter_context(stopped())
                stack.enter_context(seeing_input(self._blocks[wanted.stop], stop_after([])))
            self._forward(tokens)
        return captured

    @torch.no_grad()
    def record(self, tokens: Int[Tensor, "prompt pos"], *, parts: Collection[str]) -> CleanRun:
        """A clean forward that can be replayed from any layer and position."""
        cache = DynamicCache()
        resid: list[Tensor] = []
        with ExitStack() as stack:
            captured = stack.enter_context(self._capturing(parts, range(self.info.n_layers)))
            for block in self._blocks:
                stack.enter_context(seeing_input(block, lambda x: resid.append(x.to(self.device))))
            stack.enter_context(seeing_output(self._blocks[-1], lambda x: resid.append(x.to(self.device))))
            logits = self._forward(tokens, past_key_values=cache)
        layers: list[Any] = list(cache.layers)
        keys, values = ([getattr(c, part).to(self.device) for c in layers] for part in ("keys", "values"))
        return CleanRun(tokens, resid, keys, values, captured, logits)

    def _forward(self, tokens: Tensor, **arguments: Any) -> Tensor:
        if self._n_positions is not None and tokens.shape[1] > self._n_positions:
            raise RequestError(
                f"a prompt has {tokens.shape[1]} tokens and the table of positions of {self.info.name} has "
                f"{self._n_positions} rows: give shorter prompts"
            )
        if self._keeps_last:
            arguments["logits_to_keep"] = 1
        if self.device.type == "meta":  # without a cache transformers looks for packed sequences in the values
            arguments.setdefault("past_key_values", DynamicCache())
        arguments.setdefault("use_cache", "past_key_values" in arguments)
        output = self._network(input_ids=tokens.to(self.device), **arguments)
        try:
            return self._finite(output.logits[:, -1].float().to(self.device))
        except NumericsError as error:
            arguments.pop("past_key_values", None)
            raise NumericsError(f"{error} ({self._first_infinite(tokens, arguments)})") from None

    @torch.no_grad()
    def _first_infinite(self, tokens: Tensor, arguments: dict[str, Any]) -> str:
        """What of a forward that failed was the first to hold a number that is not finite."""
        found: list[str] = []

        def look(what: str, value: Tensor) -> None:
            if not found and not torch.isfinite(value).all():
                found.append(f"first seen in {what}")

        places = {"the input": self._blocks, "z": self._z_readers, "post": self._post_readers}
        outputs = {"the heads' output": self._z_readers, "the MLP's output": self._mlp_writers}
        with ExitStack() as stack:
            for layer in range(self.info.n_layers):
                for name, modules in places.items():
                    stack.enter_context(seeing_input(modules[layer], partial(look, f"{name} of layer {layer}")))
                for name, modules in outputs.items():
                    stack.enter_context(seeing_output(modules[layer], partial(look, f"{name} of layer {layer}")))
            self._network(input_ids=tokens.to(self.device), **arguments | {"use_cache": False})
        return (*found, "first seen in the logits")[0]

    def _finite(self, logits: Tensor) -> Tensor:
        total = logits.sum()  # 20 times cheaper than looking at every logit
        if total.is_meta or torch.isfinite(total) or torch.isfinite(logits).all():
            return logits
        bad = int((~torch.isfinite(logits)).any(-1).sum())
        raise NumericsError(
            f"{self.info.name} gives NaN or infinite logits on {bad} of {len(logits)} prompts in {self.info.dtype}: "
            f"{WAYS_OUT[self.info.dtype]}"
        )

    # -- replaying --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def window(self, tokens: Int[Tensor, "prompt pos"], start: int, length: int) -> Window:
        """What the blocks are called with at positions [start, start + length); independent of the tokens' values."""
        key = (tokens.shape[1], start, length)
        if key not in self._windows:
            self._windows[key] = self._record_window(tokens[:1].to(self.device), start, length)
        return self._windows[key]

    def _record_window(self, one: Tensor, start: int, length: int) -> Window:
        cache = DynamicCache()
        if start:
            self._network(input_ids=one[:, :start], past_key_values=cache, use_cache=True)
        seen: list[BlockArguments] = []

        def remember(_: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            seen.append((arguments[1:], {k: v for k, v in keywords.items() if k != "hidden_states"}))

        handles = [b.register_forward_pre_hook(remember, with_kwargs=True, prepend=True) for b in self._blocks]
        try:
            self._network(input_ids=one[:, start : start + length], past_key_values=cache, use_cache=True)
        finally:
            for handle in handles:
                handle.remove()
        return Window(start, length, tuple(seen))

    @torch.no_grad()
    def embed(self, tokens: Int[Tensor, "prompt pos"], start: int) -> Float[Tensor, "prompt window d_model"]:
        """Input of block 0 for the tokens from position `start` on."""
        inputs: list[Tensor] = []
        with seeing_input(self._blocks[0], stop_after(inputs)), stopped():
            self._network(input_ids=tokens.to(self.device), use_cache=False)
        return inputs[0][:, start:]

    @torch.no_grad()
    def block(
        self,
        layer: int,
        resid: Float[Tensor, "row window d_model"],
        window: Window,
        keys: Float[Tensor, "prompt kv_head before d_head"],
        values: Float[Tensor, "prompt kv_head before d_head"],
        *,
        known_mlp: KnownMlp | None = None,
    ) -> Float[Tensor, "row window d_model"]:
        """Run one block on a window of positions, attending to the given keys and values of the positions before it.

        Rows are whole repetitions of the prompts that keys and values are of: row i belongs to prompt i mod n_prompts.
        With `known_mlp` the block's MLP runs only where it says, and its output elsewhere is taken as given.
        """
        place = by_input(self._z_readers[layer]).device
        resid, prefix = resid.to(place), Prefix(keys.to(place), values.to(place))
        arguments, keywords = window.block_arguments[layer]
        given = [prefix if isinstance(v, Cache) else v for v in arguments]
        named = {k: prefix if isinstance(v, Cache) else v for k, v in keywords.items()}
        with narrowed(self._mlps[layer], self._mlp_writers[layer], known_mlp):
            return first_of(self._blocks[layer](resid, *given, **named)).to(self.device)

    @torch.no_grad()
    def unembed(self, resid: Float[Tensor, "row d_model"]) -> Float[Tensor, "row vocab"]:
        """Final norm and unembedding of final residuals, as float32."""
        norm = self.bridge.ln_final
        logits: Tensor = self.bridge.unembed(norm(resid.to(norm.original_component.weight.device)))
        if (cap := self.info.softcap) is not None:
            logits = cap * torch.tanh(logits / cap)
        return self._finite(logits.float().to(self.device))

    @torch.no_grad()
    def direct_logits(self, vectors: Float[Tensor, "row d_model"]) -> Float[Tensor, "row vocab"]:
        """What directions in the final residual write into the logits, float32, centred over the vocabulary.

        The final norm's scale (and, for LayerNorm, its centring) and the unembedding are applied; its division by the
        residual's size is not, as it depends on the prompt.
        """
        norm: nn.Module = self.bridge.ln_final.original_component
        unembed: Tensor = self._network.get_output_embeddings().weight  # type: ignore[operator]
        rows = vectors.to(unembed.device).float()
        if isinstance(norm, nn.LayerNorm):
            rows = rows - rows.mean(-1, keepdim=True)
        rows = rows * scale_of(norm).to(unembed.device)
        size = max(1, LOGIT_BYTES // (4 * self.info.d_model))  # never all of it in float32 beside half precision
        logits = torch.cat([rows @ part.float().T for part in torch.split(unembed, size)], dim=-1)
        return logits.sub_(logits.mean(-1, keepdim=True)).to(self.device)

    # -- hooks --------------------------------------------------------------------------------------------------------

    @contextmanager
    def editing(self, edit: Edit) -> Iterator[None]:
        """Apply `edit` to every `z` and `post` inside the context, whatever runs; the model is left as found."""
        with ExitStack() as stack:
            for layer in range(self.info.n_layers):
                stack.enter_context(replacing_input(self._z_readers[layer], self._editor(edit, "z", layer)))
                stack.enter_context(replacing_input(self._post_readers[layer], self._editor(edit, "post", layer)))
            yield

    def _editor(self, edit: Edit, part: Part, layer: int) -> Callable[[Tensor], Tensor | None]:
        def apply(flat: Tensor) -> Tensor | None:
            shown = flat.to(self.device)
            edited = edit(part, layer, self._split_heads(shown) if part == "z" else shown)
            return None if edited is None else edited.reshape(flat.shape).to(flat.device)

        return apply

    @contextmanager
    def _capturing(self, parts: Collection[str], layers: range) -> Iterator[Activations]:
        captured = Activations()
        with ExitStack() as stack:
            for layer in layers:
                keep = partial(self._keep, captured, layer)
                if "z" in parts:
                    stack.enter_context(seeing_input(self._z_readers[layer], partial(keep, "z")))
                if "post" in parts:
                    stack.enter_context(seeing_input(self._post_readers[layer], partial(keep, "post")))
                if "mlp_out" in parts:
                    stack.enter_context(seeing_output(self._mlp_writers[layer], partial(keep, "mlp_out")))
                if "pattern" in parts:
                    stack.enter_context(seeing_output(self._patterns[layer], partial(keep, "pattern")))
            yield captured

    def _keep(self, captured: Activations, layer: int, part: str, x: Tensor) -> None:
        x = x.to(self.device)
        getattr(captured, part)[layer] = self._split_heads(x) if part == "z" else x

    def _split_heads(self, flat: Tensor) -> Tensor:
        return rearrange(flat, "... (head d_head) -> ... head d_head", head=self.info.n_heads)

    # -- weights --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def value_vectors(
        self, layer: int, neurons: Int[Tensor, "chosen"] | None = None
    ) -> Float[Tensor, "chosen d_model"]:
        """Directions that a unit of each neuron's activation writes into the residual: rows of W_out (None: all).

        With a post-norm its scale is applied; its division by the size of the MLP's output is not, as it depends on the
        prompt.
        """
        weight = self._w_out(layer)
        rows = weight if neurons is None else weight[neurons.to(weight.device)]
        if self.info.post_norm:
            rows = rows.float() * scale_of(self.bridge.blocks[layer].ln2_post.original_component)
        return rows.to(self.device)

    @torch.no_grad()
    def neuron_deltas(
        self,
        layer: int,
        post: Float[Tensor, "prompt neuron"],
        neurons: Int[Tensor, "chosen"],
        change: Float[Tensor, "prompt chosen"],
    ) -> Float[Tensor, "chosen prompt d_model"]:
        """What the MLP's output changes by when one neuron at a time changes by `change` from `post`; exact."""
        weight = self._w_out(layer)
        rows, change = weight[neurons.to(weight.device)], change.to(weight.device)
        deltas = einsum(change, rows, "prompt chosen, chosen d_model -> chosen prompt d_model")
        if self.info.post_norm:
            written, norm = self._post_readers[layer](post.to(weight.device)), self._mlp_writers[layer]
            deltas = norm(written + deltas) - norm(written)
        return deltas.to(self.device)

    def _w_out(self, layer: int) -> Float[Tensor, "neuron d_model"]:
        return by_input(self._post_readers[layer])

    @torch.no_grad()
    def head_vectors(self, layer: int, z: Float[Tensor, "head d_head"]) -> Float[Tensor, "head d_model"]:
        """What each head writes into the residual: z W_O.

        With a norm after attention its scale is applied; its division by the size of attention's output is not.
        """
        rows = einsum(z.float(), self.w_o(layer).float(), "head d_head, head d_head d_model -> head d_model")
        if self.info.post_norm:
            rows = rows * scale_of(self.bridge.blocks[layer].ln1_post.original_component).to(rows.device)
        return rows

    def w_o(self, layer: int) -> Float[Tensor, "head d_head d_model"]:
        """Each head's output matrix."""
        weight = by_input(self._z_readers[layer]).to(self.device)
        return rearrange(weight, "(head d_head) d_model -> head d_head d_model", head=self.info.n_heads)
