"""Decoders with four kinds of positions: they load everywhere, and positions do what their kind says."""

from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch

from arithcirc.components import Head, Neuron
from arithcirc.errors import RequestError
from arithcirc.models.load import load
from arithcirc.models.suffix import Patch, SuffixEngine, parts_needed
from arithcirc.training.axiom_model import positioned_config, positioned_model, sinusoids
from arithcirc.training.model import load_step, save_step
from arithcirc.training.optim import build_optimizer
from arithcirc.training.positions import POSITION_KINDS, check_length
from arithcirc.training.text_recipe import TextRecipe
from arithcirc.training.tokenizer import save_tokenizer

VOCABULARY, PAD = 70, 0


@dataclass(frozen=True)
class Shape:
    position_kind: str = "none"
    layers: int = 2
    width: int = 32
    heads: int = 4
    mlp_width: int = 64
    positions: int = 48
    init_std: float = 0.1
    embedding_std: float = 1.0
    dropout: float = 0.1


def made(kind: str, **changes):
    return positioned_model(Shape(kind, **changes), vocabulary=VOCABULARY, pad=PAD, seed=0).eval()


def prompts(length: int = 20, count: int = 3):
    return torch.randint(1, VOCABULARY, (count, length), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=POSITION_KINDS)
def saved(request, tmp_path_factory):
    model = made(request.param)
    folder = tmp_path_factory.mktemp("axiom") / request.param
    save_step(model, folder, dtype="float32", save_tokenizer=lambda place: save_tokenizer(40, place))
    return model, folder


def test_weights_come_back_bit_by_bit(saved):
    model, folder = saved
    again = load_step(folder)
    assert type(again) is type(model)
    assert again.config.position_kind == model.config.position_kind
    assert not again.config.tie_word_embeddings
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def test_the_wrapped_model_and_the_suffix_engine_give_hugging_faces_logits(saved):
    model, folder = saved
    loaded, tokens = load(str(folder), device="cpu"), prompts()
    with torch.no_grad():
        expected = model(input_ids=tokens).logits[:, -1]
    assert torch.allclose(loaded.logits(tokens), expected, atol=1e-5)
    assert not loaded.info.parallel
    components = [Head(0, 1), Neuron(0, 5), Head(1, 2), Neuron(1, 60)]
    other = loaded.activations(prompts() % 7 + 1, parts=parts_needed(components))
    engine = SuffixEngine(loaded, tokens, parts=parts_needed(components))
    places = [9, 9, 19, 19]
    patches = [Patch(c, at) for c, at in zip(components, places, strict=True)]
    for patch, found in zip(patches, engine.run(patches, other, lambda x, _: x, batch_size=64), strict=True):
        hooked = loaded.logits(tokens, edit=partial(edited, patch, other))
        assert torch.allclose(found, hooked, atol=1e-5)
        assert not torch.allclose(found, expected, atol=1e-4)


def edited(patch, other, part, layer, activation):
    """The activation with one head or neuron from another run."""
    chosen = patch.component
    if (part, layer) != ("z" if isinstance(chosen, Head) else "post", chosen.layer):
        return None
    activation = activation.clone()
    activation[:, patch.index, chosen.index] = getattr(other, part)[layer][:, patch.index, chosen.index]
    return activation


@torch.no_grad()
def test_without_positions_only_order_counts():
    model, tokens = made("none"), prompts(length=48)
    plain = model(input_ids=tokens[:, :30]).logits
    seen = torch.ones(3, 30)
    shifted = model(input_ids=tokens[:, :30], attention_mask=seen, position_ids=torch.arange(30)[None] + 18).logits
    gaps = torch.arange(30)[None] * 3 // 2
    spread = model(input_ids=tokens[:, :30], attention_mask=seen, position_ids=gaps).logits
    assert torch.equal(plain, shifted)
    assert torch.equal(plain, spread)
    assert torch.allclose(plain, model(input_ids=tokens).logits[:, :30], atol=1e-6)
    reordered = model(input_ids=tokens[:, :30].flip(1)).logits
    assert not torch.allclose(plain[:, -1], reordered[:, -1], atol=1e-2)


@pytest.mark.parametrize("kind", ["learned", "sinusoidal"])
@torch.no_grad()
def test_tables_tell_absolute_places(kind):
    model, tokens = made(kind), prompts()
    moved = model(input_ids=tokens, attention_mask=torch.ones(3, 20), position_ids=torch.arange(20)[None] + 18).logits
    assert not torch.allclose(model(input_ids=tokens).logits, moved, atol=1e-3)


@torch.no_grad()
def test_rotary_tells_distances_alone():
    model, tokens = made("rotary"), prompts()
    plain = model(input_ids=tokens).logits
    seen = torch.ones(3, 20)
    moved = model(input_ids=tokens, attention_mask=seen, position_ids=torch.arange(20)[None] + 18).logits
    spread = model(input_ids=tokens, attention_mask=seen, position_ids=torch.arange(20)[None] * 2).logits
    assert torch.allclose(plain, moved, atol=1e-5)
    assert not torch.allclose(plain, spread, atol=1e-3)


def test_sinusoids_are_the_published_formula():
    table = sinusoids(50, 32)
    for position, pair in ((0, 0), (7, 3), (49, 15)):
        angle = torch.tensor(position / 10000 ** (2 * pair / 32))
        assert torch.allclose(table[position, 2 * pair : 2 * pair + 2], torch.stack([angle.sin(), angle.cos()]))
    assert torch.equal(made("sinusoidal").transformer.wpe.weight, table[:48])


@pytest.mark.parametrize("kind", POSITION_KINDS)
def test_the_optimizer_moves_all_but_fixed_tables(kind):
    model = made(kind)
    recipe = TextRecipe(optimizer="muon")
    owned = {id(p) for group in build_optimizer(model, recipe).param_groups for p in group["params"]}
    left = [name for name, p in model.named_parameters() if id(p) not in owned]
    assert left == (["transformer.wpe.weight"] if kind in ("none", "sinusoidal") else [])
    adamw = [p for group in build_optimizer(model, recipe).children["adamw"].param_groups for p in group["params"]]
    tables = [p for name, p in model.named_parameters() if name.endswith(("wte.weight", "embed_in.weight"))]
    assert tables[0] in set(adamw)


def test_initial_scales_are_the_shapes():
    model = made("none", layers=1, width=64, init_std=0.02)
    block = model.transformer.h[0]
    assert block.attn.c_attn.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert block.mlp.c_fc.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.transformer.wte.weight.std().item() == pytest.approx(1.0, rel=0.05)
    fused = made("rotary", init_std=0.02, width=64).gpt_neox.layers[0].attention.query_key_value
    assert fused.weight.std().item() == pytest.approx(0.02, rel=0.05)


def test_prompts_beyond_the_table_are_one_line(saved):
    model, folder = saved
    kind = model.config.position_kind
    if kind in ("learned", "sinusoidal"):
        with pytest.raises(RequestError, match=rf"49 tokens .* {kind} positions for 48: ") as caught:
            check_length(model.config, 49)
        assert "\n" not in str(caught.value)
    else:
        check_length(model.config, 4900)
    check_length(model.config, 48)
    loaded = load(str(folder), device="cpu")
    if kind == "rotary":
        assert torch.isfinite(loaded.logits(prompts(length=49))).all()
    else:
        with pytest.raises(RequestError, match=r"49 tokens and the table of positions of .* has 48 rows"):
            loaded.logits(prompts(length=49))


def test_unknown_kinds_are_refused():
    with pytest.raises(RequestError, match="unknown kind of positions 'alibi': use one of none, learned"):
        positioned_config(replace(Shape(), position_kind="alibi"), vocabulary=VOCABULARY, pad=PAD)
