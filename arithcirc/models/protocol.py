"""The model that every method is written against.

Axis words, the same everywhere: `prompt` (row of a batch), `pos` (token position), `layer`, `head`, `d_head`, `neuron`
(MLP hidden unit), `d_model`, `vocab`. `z` is a head's output before W_O; `post` is the MLP's activation before W_out.
Weights are raw: nothing is folded or centred; a formula that wants centred logits centres them itself.
"""

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor, device, dtype

Part = Literal["z", "post"]
Edit = Callable[[Part, int, Tensor], Tensor | None]
"""`edit(part, layer, activation)`: z has shape (prompt, pos, head, d_head), post (prompt, pos, neuron). Returns the
activation to use instead, or None to keep it."""


Objective = Callable[[Float[Tensor, "prompt vocab"]], Float[Tensor, "prompt"]]
"""A number per prompt, from the logits at the last position."""
Cut = frozenset[tuple[int, int]]
"""Attention edges (query token index, key token index) that no head may use."""

WAYS_OUT = {
    "float16": "use --dtype bfloat16 or float32",
    "bfloat16": "use --dtype float32",
    "float32": "its weights are at fault",
}
"""What to do about numbers that are not finite, by the type they were computed in."""

BlockArguments = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments of a block, without its residual input."""


@dataclass(frozen=True)
class ModelInfo:
    """Facts about a loaded model; sizes are counts, hashes are sha256 of the files read.

    `parallel`: attention and MLP read the same residual. `post_norm`: what the MLP writes is normalised first (Gemma 2
    and 3, OLMo 2). `softcap` c: logits are c tanh(logits / c). `sliding_window`: keys seen in some of the layers.
    """

    name: str
    revision: str
    architecture: str
    n_layers: int
    n_heads: int
    d_model: int
    d_head: int
    d_mlp: int
    d_vocab: int
    n_params: int
    parallel: bool
    n_kv_heads: int
    gated: bool
    post_norm: bool
    softcap: float | None
    sliding_window: int | None
    dtype: str
    device: str
    weights_sha256: str
    tokenizer_sha256: str


@dataclass(frozen=True)
class Activations:
    """Outputs of every component of some prompts, by layer.

    `z[layer]` is (prompt, pos, head, d_head); `post[layer]` is (prompt, pos, neuron); `mlp_out[layer]` is
    (prompt, pos, d_model), what the MLP adds to the residual stream; `pattern[layer]` is attention, (prompt, head,
    query, key). Parts and layers that were not asked for are not there.
    """

    z: dict[int, Float[Tensor, "prompt pos head d_head"]] = field(default_factory=dict)
    post: dict[int, Float[Tensor, "prompt pos neuron"]] = field(default_factory=dict)
    mlp_out: dict[int, Float[Tensor, "prompt pos d_model"]] = field(default_factory=dict)
    pattern: dict[int, Float[Tensor, "prompt head query key"]] = field(default_factory=dict)


@dataclass(frozen=True)
class CleanRun:
    """One full forward of some prompts, with all that replaying a suffix of it needs.

    `resid[layer]` is the input of block `layer`, and `resid[n_layers]` the final residual; `keys` and `values` are each
    layer's attention cache, (prompt, kv_head, pos, d_head).
    """

    tokens: Int[Tensor, "prompt pos"]
    resid: list[Float[Tensor, "prompt pos d_model"]]
    keys: list[Float[Tensor, "prompt kv_head pos d_head"]]
    values: list[Float[Tensor, "prompt kv_head pos d_head"]]
    activations: Activations
    logits: Float[Tensor, "prompt vocab"]


@dataclass(frozen=True)
class Window:
    """Positions [start, start + length) of a prompt and what each block is called with there, beside the residual."""

    start: int
    length: int
    block_arguments: tuple[BlockArguments, ...]


@dataclass(frozen=True)
class KnownMlp:
    """Where a block's MLP must be run: `run` indexes (row, window) pairs, flattened; the others are known or unread.

    `output` holds the MLP's output at the others (rows, window, d_model); it may be a broadcast view.
    """

    run: Int[Tensor, "token"]
    output: Float[Tensor, "row window d_model"]


@runtime_checkable
class HookedModel(Protocol):
    """What the methods need of a decoder: forwards with edits, and blocks that can be replayed one at a time."""

    info: ModelInfo
    tokenizer: Any

    @property
    def device(self) -> device:
        """Where tokens go in and everything comes out: the device of the embeddings, whatever device a layer is on."""
        ...

    @property
    def dtype(self) -> dtype:
        """Type of the weights."""
        ...

    def logits(
        self, tokens: Int[Tensor, "prompt pos"], *, edit: Edit | None = None, cut: Cut = frozenset()
    ) -> Float[Tensor, "prompt vocab"]:
        """Float32 logits at the last position, with activations replaced by `edit` on the way. NumericsError on NaN.

        Attention along the edges in `cut` is masked out before the softmax, in every layer and head.
        """
        ...

    def activations(
        self, tokens: Int[Tensor, "prompt pos"], *, parts: Collection[str], layers: range | None = None
    ) -> Activations:
        """Outputs of components: the parts named (`z`, `post`, `mlp_out`, `pattern`) in these layers (None: all).

        Layers above the last one asked for are not run. A wide model's `post` is large: ask for a few layers at a time.
        """
        ...

    def gradients(self, tokens: Int[Tensor, "prompt pos"], objective: Objective) -> Activations:
        """Gradient of each prompt's objective by every `z` and `post`, same shapes: one forward and one backward."""
        ...

    def record(self, tokens: Int[Tensor, "prompt pos"], *, parts: Collection[str]) -> CleanRun:
        """A clean forward that can be replayed from any layer and position."""
        ...

    def window(self, tokens: Int[Tensor, "prompt pos"], start: int, length: int) -> Window:
        """What the blocks are called with at positions [start, start + length); independent of the tokens' values."""
        ...

    def embed(self, tokens: Int[Tensor, "prompt pos"], start: int) -> Float[Tensor, "prompt window d_model"]:
        """Input of block 0 for the tokens from position `start` on."""
        ...

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
        ...

    def editing(self, edit: Edit) -> AbstractContextManager[None]:
        """Apply `edit` to every `z` and `post` inside the context, whatever runs; the model is left as found."""
        ...

    def unembed(self, resid: Float[Tensor, "row d_model"]) -> Float[Tensor, "row vocab"]:
        """Final norm and unembedding of final residuals, as float32."""
        ...

    def direct_logits(self, vectors: Float[Tensor, "row d_model"]) -> Float[Tensor, "row vocab"]:
        """What directions in the final residual write into the logits, float32, centred over the vocabulary.

        The final norm's scale (and, for LayerNorm, its centring) and the unembedding are applied; its division by the
        residual's size is not, as it depends on the prompt; nor is a soft-cap, which bends but keeps the order.
        """
        ...

    def value_vectors(
        self, layer: int, neurons: Int[Tensor, "chosen"] | None = None
    ) -> Float[Tensor, "chosen d_model"]:
        """Directions that a unit of each neuron's activation writes into the residual: rows of W_out (None: all).

        With a post-norm its scale is applied; its division by the size of the MLP's output is not, as it depends on the
        prompt.
        """
        ...

    def neuron_deltas(
        self,
        layer: int,
        post: Float[Tensor, "prompt neuron"],
        neurons: Int[Tensor, "chosen"],
        change: Float[Tensor, "prompt chosen"],
    ) -> Float[Tensor, "chosen prompt d_model"]:
        """What the MLP's output changes by when one neuron at a time changes by `change` from `post`; exact."""
        ...

    def head_vectors(self, layer: int, z: Float[Tensor, "head d_head"]) -> Float[Tensor, "head d_model"]:
        """What each head writes into the residual: z W_O.

        With a norm after attention its scale is applied; its division by the size of attention's output is not.
        """
        ...

    def w_o(self, layer: int) -> Float[Tensor, "head d_head d_model"]:
        """Each head's output matrix."""
        ...
