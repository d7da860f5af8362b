"""Loading: what is accepted gives the network's own logits; what is refused is refused in one line."""

import json
import shutil
import warnings

import pytest
import torch
import toys
from accelerate import dispatch_model
from transformers import AutoModelForCausalLM, BertConfig, BertForMaskedLM

from arithcirc.errors import EnvironmentFailure, ModelError
from arithcirc.models import load as loading
from arithcirc.models.load import load, set_threads

BUILDERS = {
    "gpt_neox": toys.gpt_neox,
    "gpt_neox_sequential": lambda: toys.gpt_neox(parallel=False),
    "gpt2": toys.gpt2,
}
TOKENS = torch.tensor([[0, 12, 3, 20, 7], [0, 30, 5, 9, 7]])


@pytest.fixture
def copy(toy_folder, tmp_path):
    """A copy of the toy to damage."""
    return shutil.copytree(toy_folder, tmp_path / "toy")


def refusal(folder, **options) -> str:
    with pytest.raises(ModelError) as caught:
        load(str(folder), device="cpu", **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- what is loaded ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILDERS)
def test_a_loaded_model_gives_the_networks_own_logits(name, tmp_path):
    network = BUILDERS[name]()
    model = load(str(toys.save(network, tmp_path / name)), device="cpu")
    with torch.no_grad():
        expected = network(input_ids=TOKENS).logits[:, -1]
    torch.testing.assert_close(model.logits(TOKENS), expected, atol=1e-4, rtol=1e-5)
    assert model.info.parallel == (name == "gpt_neox")
    assert model.info.n_params == sum(p.numel() for p in network.parameters())


def test_the_facts_are_those_of_the_files(toy_model):
    info = toy_model.info
    sizes = (info.n_layers, info.n_heads, info.d_model, info.d_head, info.d_mlp)
    assert sizes == (toys.LAYERS, toys.HEADS, toys.WIDTH, toys.WIDTH // toys.HEADS, toys.HIDDEN)
    assert (info.name, info.revision, info.architecture) == ("toy", "main", "GPTNeoXForCausalLM")
    assert info.d_vocab == toys.LIMIT + 9
    assert (info.dtype, info.device) == ("float32", "cpu")


def test_the_same_weights_in_other_blocks_are_another_model(toy_model, tmp_path):
    other = toys.save(toys.gpt_neox(parallel=False), tmp_path / "toy")
    assert load(str(other), device="cpu").info.weights_sha256 != toy_model.info.weights_sha256


def test_a_copied_folder_is_the_same_model(toy_model, copy):
    assert load(str(copy), device="cpu").info == toy_model.info


def test_another_tokenizer_has_another_hash(toy_model, copy):
    text = (copy / "tokenizer.json").read_text()
    (copy / "tokenizer.json").write_text(text.replace("<|unknown|>", "<|unfound|>"))
    config = (copy / "tokenizer_config.json").read_text()
    (copy / "tokenizer_config.json").write_text(config.replace("<|unknown|>", "<|unfound|>"))
    info = load(str(copy), device="cpu").info
    assert info.tokenizer_sha256 != toy_model.info.tokenizer_sha256
    assert info.weights_sha256 == toy_model.info.weights_sha256


def test_the_model_is_frozen_and_in_evaluation_mode(toy_model):
    network = toy_model.bridge.original_model
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_precision_is_taken(toy_folder, dtype):
    model = load(str(toy_folder), device="cpu", dtype=dtype)
    assert model.dtype == getattr(torch, dtype)
    assert model.logits(TOKENS).dtype == torch.float32


def test_loading_leaves_output_warnings_and_random_numbers_alone(toy_folder, capfd):
    before, filters = torch.random.get_rng_state(), list(warnings.filters)
    load(str(toy_folder), device="cpu")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert warnings.filters == filters
    assert capfd.readouterr() == ("", "")


def test_the_golden_model_loads(shared):
    model = load(str(shared / "models" / "neox-m100"), device="cpu")
    assert (model.info.n_layers, model.info.n_heads, model.info.d_model) == (4, 4, 128)
    answer = model.logits(torch.tensor([[0, 8 + 12, 3, 8 + 30, 7]])).argmax()
    assert answer == 8 + 42


@pytest.mark.parametrize("name", BUILDERS)
def test_the_hooks_of_a_model_spread_over_devices_change_nothing(name, tmp_path, monkeypatch):
    """accelerate's hooks, which move inputs to each module's device, stay in place under ours; all on the CPU here."""
    folder = str(toys.save(BUILDERS[name](), tmp_path / name))
    hooked, network_of = [], loading.read_network

    def spread(*arguments):
        network = network_of(*arguments)
        inner = {f"{network.base_model_prefix}.{part}": "cpu" for part, _ in network.base_model.named_children()}
        outer = {part: "cpu" for part, _ in network.named_children() if part != network.base_model_prefix}
        dispatch_model(network, inner | outer, force_hooks=True)
        hooked.extend(module for module in network.modules() if hasattr(module, "_hf_hook"))
        return network

    alone = load(folder, device="cpu")
    monkeypatch.setattr(loading, "read_network", spread)
    model = load(folder, device="cpu")
    assert len(hooked) > toys.LAYERS
    assert torch.equal(model.logits(TOKENS), alone.logits(TOKENS))


def test_all_gpus_are_counted_and_named(toy_folder, monkeypatch):
    budgets = {}

    def placed(name, network, **options):
        budgets.update(options["budgets"])
        raise EnvironmentFailure("enough")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(loading, "free_bytes", {"cuda:0": 5, "cuda:1": 7}.__getitem__)
    monkeypatch.setattr(loading, "placement", placed)
    with pytest.raises(EnvironmentFailure, match="enough"):
        load(str(toy_folder), device_map="auto")
    assert budgets == {0: 5, 1: 7}
    assert loading._devices({"a": 0, "b": 0, "c": 1}) == ["cuda:0", "cuda:1"]


# -- what is refused --------------------------------------------------------------------------------------------------


def test_a_folder_without_config_is_refused(copy):
    (copy / "config.json").unlink()
    assert "no config.json" in refusal(copy)


def test_a_folder_without_weights_is_refused(copy):
    (copy / "model.safetensors").unlink()
    assert "no *.safetensors weights" in refusal(copy)


def test_pickled_weights_are_refused_with_the_way_to_convert_them(copy):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    assert "pickled weights (pytorch_model.bin)" in refusal(copy)
    assert "save_pretrained" in refusal(copy)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", b"{ not json"),
        ("tokenizer.json", b"{ not json"),
        ("tokenizer.json", b"{}"),
        ("model.safetensors", b""),
        ("model.safetensors", b"half a file"),
    ],
)
def test_a_damaged_file_is_refused(copy, file, content):
    (copy / file).write_bytes(content)
    assert "cannot load the" in refusal(copy)


@pytest.mark.parametrize("content", ["[]", "{}"])
def test_a_configuration_without_a_type_is_refused(copy, content):
    (copy / "config.json").write_text(content)
    assert "its config.json gives no model_type" in refusal(copy)


def test_truncated_weights_are_refused(copy):
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "cannot load the weights of toy" in refusal(copy)


def test_weights_of_another_shape_are_refused(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"hidden_size": 96}))
    assert "cannot load the weights of toy" in refusal(copy)


def test_missing_weights_are_refused_not_drawn_at_random(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 4}))
    assert "cannot load the weights of toy" in refusal(copy)


def test_a_missing_tokenizer_is_refused(copy):
    for file in copy.glob("tokenizer*"):
        file.unlink()
    assert "tokenizer" in refusal(copy)


def test_an_architecture_that_was_not_checked_is_refused_by_name(tmp_path):
    config = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=69)
    assert "is a BertForMaskedLM, which is not supported: it is not a decoder" in refusal(
        toys.save(BertForMaskedLM(config), tmp_path / "bert")
    )


def test_a_hub_model_that_is_not_here_is_refused_offline():
    with pytest.raises(ModelError, match=r"no-such-owner/no-such-model.*check the name"):
        load("no-such-owner/no-such-model", device="cpu")


@pytest.mark.parametrize("dtype", ["float64", "int8", "half"])
def test_an_unknown_precision_is_refused(toy_folder, dtype):
    assert "use one of float32, bfloat16, float16" in refusal(toy_folder, dtype=dtype)


@pytest.mark.parametrize("device", ["gpu", "cpu:x", "mps:zero", "meta"])
def test_an_unknown_device_is_refused(toy_folder, device):
    with pytest.raises(ModelError, match=f"device '{device}' is not known: use cpu, cuda or cuda:N"):
        load(str(toy_folder), device=device)


def test_a_gpu_that_is_not_here_is_refused(toy_folder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match="no usable GPU here: use --device cpu"):
        load(str(toy_folder), device="cuda:0")


def test_a_gpu_number_that_is_not_here_is_refused(toy_folder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ModelError, match=r"device 'cuda:5' .* cuda:0\.\.cuda:1"):
        load(str(toy_folder), device="cuda:5")


# -- small things -----------------------------------------------------------------------------------------------------


def test_threads_stay_within_the_machine():
    before = torch.get_num_threads()
    try:
        set_threads(1)
        assert torch.get_num_threads() == 1
        set_threads(None)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_the_saved_toy_is_the_built_one(toy_folder):
    loaded = AutoModelForCausalLM.from_pretrained(toy_folder, dtype=torch.float32)
    for name, value in toys.gpt_neox().state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
