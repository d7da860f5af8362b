"""The plain network is the one in the files, and what `load` refuses is refused here."""

import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertForMaskedLM, GPTNeoXForCausalLM, OPTConfig, OPTForCausalLM

from arithcirc.errors import EnvironmentFailure, ModelError
from arithcirc.models import plain
from arithcirc.models.plain import load_plain

TOKENS = torch.tensor([[0, 12, 3, 20, 7]])


def refusal(folder, **options) -> str:
    with pytest.raises(ModelError) as caught:
        load_plain(str(folder), device="cpu", **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_it_is_the_network_of_the_files(toy_folder, toy_model):
    loaded = load_plain(str(toy_folder), device="cpu")
    expected = GPTNeoXForCausalLM.from_pretrained(toy_folder, dtype=torch.float32).eval()
    with torch.no_grad():
        assert torch.equal(loaded.network(input_ids=TOKENS).logits, expected(input_ids=TOKENS).logits)
    assert not loaded.network.training
    assert not any(p.requires_grad for p in loaded.network.parameters())
    assert loaded.info.weights_sha256 == toy_model.info.weights_sha256
    assert loaded.info.tokenizer_sha256 == toy_model.info.tokenizer_sha256
    assert (loaded.info.name, loaded.info.revision, loaded.info.max_tokens) == ("toy", "main", 32)
    assert loaded.info.n_params == toy_model.info.n_params
    assert loaded.tokenizer.decode(loaded.tokenizer("12 + 3")["input_ids"]).endswith("12+3")


def test_an_architecture_without_patches_loads(toy_folder, tmp_path):
    config = OPTConfig(
        vocab_size=80, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, ffn_dim=32, word_embed_proj_dim=16,
        max_position_embeddings=16,
    )  # fmt: skip
    OPTForCausalLM(config).save_pretrained(tmp_path)
    shutil.copy(toy_folder / "tokenizer.json", tmp_path)
    shutil.copy(toy_folder / "tokenizer_config.json", tmp_path)
    loaded = load_plain(str(tmp_path), device="cpu", dtype="bfloat16")
    assert loaded.info.architecture == "OPTForCausalLM"
    assert {p.dtype for p in loaded.network.parameters()} == {torch.bfloat16}


def test_refusals_are_one_line(toy_folder, tmp_path, monkeypatch):
    assert "does not exist" in refusal("/nowhere/at/all")
    assert "dtype" in refusal(toy_folder, dtype="int8")
    assert "no step folders" in refusal(toy_folder, revision="step5")
    pickled = shutil.copytree(toy_folder, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    assert "pickled" in refusal(pickled)
    bert = BertForMaskedLM(
        BertConfig(vocab_size=80, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    )
    bert.save_pretrained(tmp_path / "bert")
    shutil.copy(toy_folder / "tokenizer.json", tmp_path / "bert")
    assert "not a decoder" in refusal(tmp_path / "bert")
    part = shutil.copytree(toy_folder, tmp_path / "part")
    save_file({"nothing": torch.zeros(1)}, part / "model.safetensors", metadata={"format": "pt"})
    assert "tensors are missing" in refusal(part)
    monkeypatch.setattr("arithcirc.models.memory.free_bytes", lambda _: 1000)
    with pytest.raises(EnvironmentFailure, match="does not fit"):
        load_plain(str(toy_folder), device="cpu")


def test_it_loads_without_the_hooks():
    code = "import sys, arithcirc.models.plain; sys.exit('transformer_lens' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert plain.PlainModel
