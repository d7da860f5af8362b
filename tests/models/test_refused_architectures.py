"""Classes and settings: what is refused by name, what is exact, and that a wrongly wrapped model is not loaded."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
import transformers
from architectures import BUILDERS, shaken
from torch import Tensor, nn
from toys import LIMIT

from arithcirc.errors import ModelError
from arithcirc.measure.exactness import TOLERANCE, check_exactness, random_tokens
from arithcirc.models.architectures import ARCHITECTURES, REFUSED_ARCHITECTURES, check_architecture, supported
from arithcirc.models.load import load
from arithcirc.training.tokenizer import build_tokenizer


def made(name: str, settings: dict[str, Any]) -> Any:
    """A random model of a builder's class with other settings."""
    start = BUILDERS[name]()
    return shaken(toys.drawn(type(start), type(start.config)(**(start.config.to_dict() | settings)), seed=1))


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load(str(folder), device="cpu")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rope(kind: str, **settings: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10_000.0, **settings}}


# -- classes ----------------------------------------------------------------------------------------------------------


def test_every_supported_class_is_built_and_checked() -> None:
    assert {type(build()).__name__ for build in BUILDERS.values()} == set(ARCHITECTURES)


MODEL_TYPES = {
    "Gemma3ForConditionalGeneration": "gemma3",
    "Llama4ForConditionalGeneration": "llama4",
    "MixtralForCausalLM": "mixtral",
    "Qwen2MoeForCausalLM": "qwen2_moe",
    "Qwen3MoeForCausalLM": "qwen3_moe",
    "OlmoeForCausalLM": "olmoe",
    "GptOssForCausalLM": "gpt_oss",
    "MambaForCausalLM": "mamba",
    "Mamba2ForCausalLM": "mamba2",
    "T5ForConditionalGeneration": "t5",
    "BertForMaskedLM": "bert",
}


@pytest.mark.parametrize("name", REFUSED_ARCHITECTURES)
def test_a_known_class_is_refused_with_its_reason(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    build_tokenizer(LIMIT).save_pretrained(folder)
    (folder / "model.safetensors").write_bytes(b"never read")
    (folder / "config.json").write_text(json.dumps({"model_type": MODEL_TYPES[name], "architectures": [name]}))
    assert refusal(folder) == f"model is a {name}, which is not supported: {REFUSED_ARCHITECTURES[name]}"


@pytest.mark.parametrize("found", [["FalconForCausalLM"], [], None])
def test_a_class_that_was_not_checked_is_refused_with_those_that_were(found: list[str] | None) -> None:
    config = transformers.PretrainedConfig(architectures=found)
    with pytest.raises(ModelError, match=r"model is a (Falcon\w+|unknown); patches are exact and checked for GPTNeoX"):
        check_architecture("model", config)


# -- settings of supported classes ------------------------------------------------------------------------------------

WRONG = {
    "gpt2 add_cross_attention=True": ("gpt2", {"add_cross_attention": True}, "decoders alone"),
    "gpt2 scale_attn_weights=False": ("gpt2", {"scale_attn_weights": False}, "scales attention scores"),
    "gemma3 use_bidirectional_attention=True": ("gemma3", {"use_bidirectional_attention": True}, "see later ones"),
    "gemma3 attn_logit_softcapping=4.0": ("gemma3", {"attn_logit_softcapping": 4.0}, "leaves out the soft-cap"),
    "llama is_causal=False": ("llama", {"is_causal": False}, "see later ones"),
    "olmo2 clip_qkv=0.5": ("olmo2", {"clip_qkv": 0.5}, "clips its queries"),
    "neox attention_bias=False": ("neox-parallel", {"attention_bias": False}, "needs the biases"),
    "llama 'dynamic'": ("llama", rope("dynamic", factor=4.0), "change with the prompt's length"),
    "llama 'longrope'": (
        "llama",
        rope("longrope", factor=4.0, original_max_position_embeddings=3, short_factor=[1.0] * 6, long_factor=[2.0] * 6),
        "change with the prompt's length",
    ),
}


@pytest.mark.parametrize("setting", WRONG)
def test_a_setting_that_would_be_computed_wrongly_is_refused_by_name(setting: str, tmp_path: Path) -> None:
    name, settings, reason = WRONG[setting]
    said = refusal(toys.save(made(name, settings), tmp_path / name))
    assert setting.split()[1] in said
    assert reason in said


def test_quantised_weights_and_uneven_heads_are_refused(toy_folder: Path, tmp_path: Path) -> None:
    config = json.loads((toy_folder / "config.json").read_text())
    folder = toys.save(toys.gpt_neox(), tmp_path / "toy")
    four_bits = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": four_bits}))
    assert "quantised weights" in refusal(folder)
    uneven = transformers.LlamaConfig(num_attention_heads=4, num_key_value_heads=3, architectures=["LlamaForCausalLM"])
    with pytest.raises(ModelError, match="4 heads, which is no multiple of its 3 key-value heads"):
        check_architecture("model", uneven)


@pytest.mark.parametrize("model_type", ["gpt_neox", "of-its-author"])
def test_code_of_the_author_is_refused_by_name_and_never_run(model_type: str, tmp_path: Path) -> None:
    folder = toys.save(toys.gpt_neox(), tmp_path / "toy")
    config = json.loads((folder / "config.json").read_text()) | {"model_type": model_type}
    ran = tmp_path / "ran"
    (folder / "theirs.py").write_text(f"from pathlib import Path\nPath({str(ran)!r}).touch()\nTheirs = Config = None\n")
    classes = {"AutoConfig": "theirs.Config", "AutoModelForCausalLM": "theirs.Theirs"}
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": classes}))
    said = refusal(folder)
    assert "code of its author" in said
    assert "never run" in said
    assert ("give a folder without auto_map" in said) == (model_type == "gpt_neox")
    assert not ran.exists()


def test_code_of_the_author_for_other_tasks_is_no_reason_to_refuse(tmp_path: Path) -> None:
    folder = toys.save(toys.gpt_neox(), tmp_path / "toy")
    config = json.loads((folder / "config.json").read_text())
    other = {"AutoModelForSequenceClassification": "theirs.Theirs"}
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": other}))
    assert load(str(folder), device="cpu").info.architecture == "GPTNeoXForCausalLM"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"model_type": "foo"}, "model type 'foo' is unknown to transformers"),
        ({}, "its config.json gives no model_type"),
    ],
)
def test_a_model_type_that_is_unknown_is_named_with_those_supported(
    given: dict[str, str], words: str, tmp_path: Path
) -> None:
    folder = toys.save(toys.gpt_neox(), tmp_path / "toy")
    (folder / "config.json").write_text(json.dumps({"architectures": ["FooForCausalLM"]} | given))
    said = refusal(folder)
    assert words in said
    assert said.endswith(f"supported are {supported()}")


EXACT = {
    "gpt2 layer scale": ("gpt2", {"scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True}),
    "gpt2 untied relu": ("gpt2", {"tie_word_embeddings": False, "activation_function": "relu"}),
    "gptj full rotary": ("gptj", {"rotary_dim": 12, "activation_function": "silu"}),
    "llama biases": ("llama", {"attention_bias": True, "mlp_bias": True, "hidden_act": "gelu", "head_dim": 16}),
    "llama one key head": ("llama", {"num_key_value_heads": 1, "tie_word_embeddings": True}),
    "llama linear rope": ("llama", rope("linear", factor=4.0)),
    "qwen3 yarn": ("qwen3", {"attention_bias": True, **rope("yarn", factor=4.0, original_max_position_embeddings=8)}),
    "qwen2 window": ("qwen2", {"use_sliding_window": True, "sliding_window": 3, "layer_types": None,
                               "max_window_layers": 1}),
    "neox full rotary": ("neox-parallel", {**rope("default", partial_rotary_factor=1.0), "hidden_act": "gelu_new"}),
    "mistral without window": ("mistral", {"sliding_window": None}),
    "gemma2 without caps": ("gemma2", {"final_logit_softcapping": None, "attn_logit_softcapping": None}),
    "gemma3 final cap": ("gemma3", {"final_logit_softcapping": 6.0, "attention_bias": True}),
}  # fmt: skip
"""Settings within a class that other models use."""


@pytest.mark.parametrize("variant", EXACT)
def test_other_settings_of_a_class_are_exact(variant: str, tmp_path: Path) -> None:
    name, settings = EXACT[variant]
    network = made(name, settings)
    model = load(str(toys.save(network, tmp_path / name)), device="cpu")
    tokens, source = random_tokens(model, 3, length=6)
    with torch.no_grad():
        plain = network(input_ids=tokens).logits[:, -1]
    torch.testing.assert_close(model.logits(tokens), plain, rtol=1e-5, atol=1e-5 * float(plain.abs().max()))
    found = check_exactness(model, tokens, source, per_kind=45)
    assert found["relative"].max() < TOLERANCE["float32"]
    assert found["moved"].mean() > 0.5


# -- what loading checks ----------------------------------------------------------------------------------------------


WRAPPED_WRONGLY: dict[str, Callable[[Any], nn.Module]] = {
    "an MLP": lambda bridge: bridge.blocks[1].mlp,
    "an attention layer's output": lambda bridge: bridge.blocks[0].attn.o,
    "the final norm": lambda bridge: bridge.ln_final,
    "the first block": lambda bridge: bridge.blocks[0],
}


@pytest.mark.parametrize("where", WRAPPED_WRONGLY)
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_model_wrapped_wrongly_is_not_loaded(
    name: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if a new release computed one module a twentieth too large."""
    from transformer_lens.model_bridge import TransformerBridge

    real = TransformerBridge.boot_transformers

    def grown(_: nn.Module, __: object, out: Any) -> Any:
        return (out[0] * 1.05, *out[1:]) if isinstance(out, tuple) else out * 1.05

    def wrongly(*given: Any, **named: Any) -> Any:
        bridge = real(*given, **named)
        WRAPPED_WRONGLY[where](bridge).register_forward_hook(grown)
        return bridge

    monkeypatch.setattr(TransformerBridge, "boot_transformers", wrongly)
    said = refusal(toys.save(BUILDERS[name](), tmp_path / name))
    assert "gives other logits when wrapped than plain transformers does" in said
    assert type(BUILDERS[name]()).__name__ in said


def test_a_replay_that_differs_is_not_loaded(toy_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits that are right while replayed blocks are not: the prefix's values are lost."""
    from arithcirc.models.bridge import BridgedModel

    real = BridgedModel.block

    def forgetful(self: BridgedModel, layer: int, resid: Tensor, window: Any, keys: Tensor, values: Tensor) -> Tensor:
        return real(self, layer, resid, window, keys, values * 0)

    monkeypatch.setattr(BridgedModel, "block", forgetful)
    assert "gives other logits when replayed" in refusal(toy_folder)
