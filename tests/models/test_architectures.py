"""Every supported architecture, at small size, saved as a Hugging Face folder and loaded as any model is."""

import pytest
import torch
import toys
from architectures import BUILDERS
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from arithcirc.models.bridge import BridgedModel
from arithcirc.models.load import load
from arithcirc.training.tokenizer import build_tokenizer

N_PROMPTS = 6
GATED = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "olmo2")


@pytest.fixture(scope="module", params=BUILDERS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(name: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(toys.save(BUILDERS[name](), tmp_path_factory.mktemp(name)))


@pytest.fixture(scope="module")
def model(folder: str) -> BridgedModel:
    return load(folder, device="cpu")


def prompts_of(seed: int) -> Tensor:
    tokens = torch.randint(3, toys.LIMIT, (N_PROMPTS, 5), generator=torch.Generator().manual_seed(seed))
    tokens[:, 0] = 0
    return tokens


def unnormed(model: BridgedModel, x: Tensor, norm: nn.Module) -> Tensor:
    """What a norm divides by: the root mean square, for a LayerNorm of the centred input."""
    x = x - x.mean(-1, keepdim=True) if isinstance(norm, nn.LayerNorm) else x
    eps = next(getattr(norm, n) for n in ("eps", "variance_epsilon") if hasattr(norm, n))
    return (x.pow(2).mean(-1, keepdim=True) + eps).sqrt()


def test_logits_are_those_of_plain_transformers(model: BridgedModel, folder: str) -> None:
    network = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = network(input_ids=prompts_of(0)).logits[:, -1]
    torch.testing.assert_close(model.logits(prompts_of(0)), expected, rtol=1e-5, atol=1e-4)


def test_the_tokenizer_is_that_of_the_files(model: BridgedModel) -> None:
    """Whatever tokenizer models of this type usually have: transformers gives any Qwen 2 one that splits numbers."""
    ours, theirs = (t.backend_tokenizer.to_str() for t in (model.tokenizer, build_tokenizer(toys.LIMIT)))
    assert ours == theirs
    assert model.tokenizer.tokenize("12+30=") == ["12", "+", "30", "="]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_near_full(model: BridgedModel, folder: str, dtype: str) -> None:
    half, full = load(folder, device="cpu", dtype=dtype).logits(prompts_of(0)), model.logits(prompts_of(0))
    bound = 0.1 if dtype == "bfloat16" else 0.02
    assert (half - full).abs().max() < bound * full.abs().max()
    assert not torch.equal(half, full)


def test_logits_of_half_precision_are_not_rounded_to_it(folder: str) -> None:
    model = load(folder, device="cpu", dtype="bfloat16")
    normed: list[Tensor] = []
    handle = model.bridge.unembed.register_forward_pre_hook(lambda _, x: normed.append(x[0][:, -1]))
    logits = model.logits(prompts_of(0))
    handle.remove()
    head = model.bridge.original_model.get_output_embeddings().original_component
    expected = normed[0].double() @ head.weight.double().T
    if head.bias is not None:
        expected = expected + head.bias.double()
    if (cap := model.info.softcap) is not None:
        expected = cap * torch.tanh(expected / cap)
    torch.testing.assert_close(logits.double(), expected, rtol=1e-5, atol=1e-5)
    assert not torch.equal(logits, logits.bfloat16().float())
    slopes = model.gradients(prompts_of(0), lambda x: x[:, 12] - x[:, 30])
    assert all(torch.isfinite(g).all() and g.dtype == torch.bfloat16 for g in slopes.post.values())


def test_z_is_per_query_head_and_writes_what_attention_writes(model: BridgedModel, name: str) -> None:
    info = model.info
    assert info.n_kv_heads == (info.n_heads if name in ("neox-parallel", "neox-sequential", "gpt2", "gptj") else 2)
    z = model.activations(prompts_of(0), parts={"z"}).z[1]
    assert z.shape == (N_PROMPTS, 5, info.n_heads, info.d_head)
    output = model.bridge.blocks[1].attn.o
    written = torch.einsum("pthd,hdm->ptm", z, model.w_o(1))
    bias = output(z.flatten(-2)) - written
    torch.testing.assert_close(bias, bias[:1, :1].expand_as(bias), rtol=1e-4, atol=1e-4)


def test_neurons_write_their_value_vectors(model: BridgedModel, name: str) -> None:
    acts = model.activations(prompts_of(0), parts={"post", "mlp_out"})
    written, added = acts.post[1] @ model.value_vectors(1), acts.mlp_out[1]
    if model.info.post_norm:  # the direction is exact, its length is set by the norm
        torch.testing.assert_close(
            nn.functional.normalize(written, dim=-1), nn.functional.normalize(added, dim=-1), rtol=1e-4, atol=1e-5
        )
    else:
        bias = added - written
        torch.testing.assert_close(bias, bias[:1, :1].expand_as(bias), rtol=1e-4, atol=1e-4)
    assert model.info.gated == (name in GATED)
    if model.info.gated:
        assert (acts.post[1] < -0.5).float().mean() > 0.1, "a gated neuron's activation has both signs"


def test_direct_logits_are_the_unembedding_without_the_residuals_size(model: BridgedModel) -> None:
    final = model.record(prompts_of(0), parts=set()).resid[-1][:, -1]
    norm = model.bridge.ln_final.original_component

    def uncapped(resid: Tensor) -> Tensor:
        logits, cap = model.unembed(resid), model.info.softcap
        return logits if cap is None else cap * torch.atanh((logits / cap).double()).float()

    expected = uncapped(final) - uncapped(final * 0)  # the second is what biases write
    expected = expected - expected.mean(-1, keepdim=True)
    found = model.direct_logits(final) / unnormed(model, final, norm)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-3)


def test_gradients_are_those_of_small_steps(model: BridgedModel) -> None:
    tokens, layer, step = prompts_of(0), 1, 1e-2

    def objective(logits: Tensor) -> Tensor:
        return logits[:, 12] - logits[:, 30]

    found = model.gradients(tokens, objective)
    for part, at in (("z", (slice(None), 4, 1, 2)), ("post", (slice(None), 4, 7))):

        def moved(by: float, part: str = part, at: tuple[object, ...] = at) -> Tensor:
            def edit(which: str, where: int, x: Tensor) -> Tensor | None:
                if which != part or where != layer:
                    return None
                x = x.clone()
                x[at] += by
                return x

            return objective(model.logits(tokens, edit=edit))

        slope = (moved(step) - moved(-step)) / (2 * step)
        torch.testing.assert_close(getattr(found, part)[layer][at], slope, rtol=2e-2, atol=2e-3)
