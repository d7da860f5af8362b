"""Memory of the weights: counted exactly, compared with what is free, refused with the numbers."""

import psutil
import pytest
import toys
import transformers
from architectures import BUILDERS

from arithcirc.errors import EnvironmentFailure
from arithcirc.models import memory
from arithcirc.models.load import load
from arithcirc.models.memory import check_fits, free_bytes, gigabytes, loading_bytes, placement, weights_bytes
from arithcirc.models.shapes import configuration, meta_network
from arithcirc.models.zoo import named

GB = 10**9


@pytest.fixture(scope="module")
def pythia():
    """Pythia-6.9B without its weights."""
    return meta_network(configuration(named("pythia-6.9b").shape))


@pytest.fixture
def group(tmp_path, monkeypatch):
    """A control group's files: `group(limit, used, cache)`."""

    def write(limit, used, cache):
        for name, text in (("max", limit), ("current", used), ("stat", f"anon 5\ninactive_file {cache}")):
            (tmp_path / f"memory.{name}").write_text(f"{text}\n")

    files = (str(tmp_path / "memory.max"), str(tmp_path / "memory.current"), "inactive_file")
    monkeypatch.setattr(memory, "_CGROUPS", (files,))
    return write


def test_weights_take_their_precisions_bytes():
    assert [weights_bytes(1000, dtype) for dtype in ("float32", "bfloat16", "float16")] == [4000, 2000, 2000]


@pytest.mark.parametrize("name", BUILDERS)
def test_loading_counts_fused_weights_twice(name):
    network = BUILDERS[name]()
    n_params = sum(p.numel() for p in network.parameters())
    fused = toys.LAYERS * 3 * toys.WIDTH * (toys.WIDTH + 1) if name.startswith(("neox", "gpt2")) else 0
    assert loading_bytes(network, "float32") == 4 * (n_params + fused)


def test_loading_holds_what_was_counted(toy_folder, monkeypatch):
    """The tensors alive when TransformerLens has split the fused weights, and after they are freed."""
    from arithcirc.models import load as loading

    held = []

    def seen(bridge):
        storages = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in bridge.parameters()}
        held.append(sum(storages.values()))

    free_fused = loading._free_fused
    monkeypatch.setattr(loading, "_free_fused", lambda bridge: (seen(bridge), free_fused(bridge), seen(bridge)))
    load(str(toy_folder), device="cpu")
    counted = toys.gpt_neox()
    assert held[0] == pytest.approx(loading_bytes(counted, "float32"), rel=0.02)
    assert held[1] == pytest.approx(sum(p.numel() for p in counted.parameters()) * 4, rel=0.02)


def test_free_memory_is_the_machines_or_the_groups(group, monkeypatch):
    group("max", "5", "0")
    assert 0 < free_bytes("cpu") <= psutil.virtual_memory().total
    group("9000", "7000", "1500")
    assert free_bytes("cpu") == 3500
    group("9000", "9900", "0")
    assert free_bytes("cpu") == 0
    group("9000", "no number", "0")
    assert free_bytes("cpu") > 9000


def test_a_model_that_fits_is_let_through(pythia, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 17 * GB)
    check_fits("EleutherAI/pythia-6.9b", pythia, dtype="bfloat16", device="cuda:0")


def test_a_model_that_does_not_fit_is_refused_with_the_numbers_and_what_would(pythia, monkeypatch):
    free = {"cuda:0": 20 * GB, "cpu": 64 * GB}
    monkeypatch.setattr(memory, "free_bytes", free.__getitem__)
    with pytest.raises(EnvironmentFailure) as caught:
        check_fits("EleutherAI/pythia-6.9b", pythia, dtype="float32", device="cuda:0", n_gpus=2)
    said = str(caught.value)
    assert "6,857,302,016 weights in float32 need 33.9 GB while loading (27.4 GB afterwards)" in said
    assert "cuda:0 has 20.0 GB free" in said
    assert "--dtype bfloat16 (16.9 GB)" in said
    assert "--device-map auto over the 2 GPUs" in said
    assert "--device cpu" in said
    assert "the smaller EleutherAI/pythia-2.8b" in said


def test_where_nothing_smaller_fits_a_bigger_machine_is_named(pythia, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)
    with pytest.raises(EnvironmentFailure, match=r"cpu has 0\.0 MB free: use a bigger machine"):
        check_fits("my own model", pythia, dtype="bfloat16", device="cpu")


def test_loading_refuses_before_it_reads_the_weights(toy_folder, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 100_000)

    def read(*_, **__):
        raise AssertionError

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", read)
    with pytest.raises(EnvironmentFailure, match="toy does not fit"):
        load(str(toy_folder), device="cpu")


def test_a_model_that_fits_one_gpu_stays_whole(pythia):
    assert placement("p", pythia, dtype="bfloat16", budgets={0: 24 * GB}) == {"": 0}


@pytest.mark.parametrize("free", [(8, 8, 8), (16, 4)], ids=["even", "uneven"])
def test_blocks_are_spread_whole_and_in_order_within_what_is_free(pythia, free):
    budgets = {gpu: size * GB for gpu, size in enumerate(free)}
    places = placement("p", pythia, dtype="bfloat16", budgets=budgets)
    layers = [places[f"gpt_neox.layers.{layer}"] for layer in range(32)]
    assert layers == sorted(layers)
    assert set(places.values()) == set(budgets)
    used = dict.fromkeys(budgets, 0)
    for module, gpu in places.items():
        used[gpu] += loading_bytes(pythia.get_submodule(module), "bfloat16")
    assert all(used[gpu] <= budgets[gpu] for gpu in budgets)


def test_what_does_not_fit_the_gpus_is_refused_by_layer_with_the_reason(pythia):
    with pytest.raises(EnvironmentFailure) as caught:
        placement("EleutherAI/pythia-6.9b", pythia, dtype="float32", budgets={0: 9 * GB, 1: 12 * GB})
    said = str(caught.value)
    assert "needs 33.9 GB, free are cuda:0 9.0 GB, cuda:1 12.0 GB" in said
    assert "without place: gpt_neox.layers." in said
    assert "replayed thousands of times" in said
    assert "--dtype bfloat16" in said
    with pytest.raises(EnvironmentFailure, match=r"without place: .*more GPUs or a smaller model") as caught:
        placement("EleutherAI/pythia-6.9b", pythia, dtype="bfloat16", budgets={0: GB})
    assert "bfloat16," not in str(caught.value)


def test_sizes_are_written_for_people():
    assert (gigabytes(27_429_208_064), gigabytes(300_000)) == ("27.4 GB", "0.3 MB")
