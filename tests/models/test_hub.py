"""The hub: read from its cache without a network; each failure in one line, with who is at fault and no token."""

import errno
import os
import resource
import traceback

import huggingface_hub
import psutil
import pytest
import torch
import toys
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from toys import COMMIT, cached
from transformers.utils import hub as transformers_hub

from arithcirc.errors import EnvironmentFailure, ModelError
from arithcirc.models import hub
from arithcirc.models import load as loading
from arithcirc.models.hub import reading_only, without_tokens
from arithcirc.models.load import load
from arithcirc.training.tokenizer import build_tokenizer

TOKEN = "hf_aVerySecretToken123"  # noqa: S105


def http_error(kind, status, message="no"):
    """An error of the hub's own client, with the answer it got."""
    client = __import__(HfHubHTTPError.__mro__[1].__module__.split(".")[0])
    answer = client.Response(status, request=client.Request("GET", "https://hub.invalid/model"))
    return kind(message, response=answer)


@pytest.fixture
def failing(monkeypatch):
    """`failing(error)`: every download raises it, as if the network were on."""

    def make(error):
        def download(*_, **__):
            raise error

        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(transformers_hub, "hf_hub_download", download)

    return make


# -- from the cache ---------------------------------------------------------------------------------------------------


def test_a_cached_model_loads_offline_as_its_folder_does(toy_folder, toy_model, tmp_path):
    cached(toy_folder, tmp_path, "owner/toy")
    model = load("owner/toy", device="cpu", cache_dir=tmp_path, offline=True)
    assert (model.info.name, model.info.revision) == ("owner/toy", "main")
    assert model.info.weights_sha256 == f"commit:{COMMIT}"
    tokens = torch.tensor([[0, 12, 3, 20, 7]])
    assert torch.equal(model.logits(tokens), toy_model.logits(tokens))


def test_the_last_step_of_pythia_is_read_from_main(toy_folder, tmp_path):
    cached(toy_folder, tmp_path, "EleutherAI/pythia-14m")
    model = load("EleutherAI/pythia-14m", revision="step143000", device="cpu", cache_dir=tmp_path, offline=True)
    assert model.info.revision == "step143000"


def test_pickled_weights_alone_are_not_read(toy_folder, tmp_path):
    snapshot = cached(toy_folder, tmp_path, "EleutherAI/pythia-14m", "step512")
    (snapshot / "model.safetensors").unlink()
    torch.save({"a": Unpickled()}, snapshot / "pytorch_model.bin")
    asked = {"revision": "step512", "device": "cpu", "cache_dir": tmp_path, "offline": True}
    with pytest.raises(ModelError, match=r"lacks the weights of EleutherAI/pythia-14m \(step512\) as safetensors"):
        load("EleutherAI/pythia-14m", **asked)
    assert "ARITHCIRC_UNPICKLED" not in os.environ


class Unpickled:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return os.putenv, ("ARITHCIRC_UNPICKLED", "1")


def test_offline_names_what_is_missing_and_asks_nothing(failing, tmp_path, monkeypatch):
    asked = []
    failing(OfflineModeIsEnabled("off"))

    def download(*_, local_files_only, **__):
        asked.append(local_files_only)
        raise LocalEntryNotFoundError("not here")

    monkeypatch.setattr(transformers_hub, "hf_hub_download", download)
    with pytest.raises(ModelError, match=r"lacks the configuration of owner/model .*\(--offline .* the network on"):
        load("owner/model", device="cpu", offline=True, cache_dir=tmp_path)
    assert asked
    assert all(asked)
    assert constants.HF_HUB_OFFLINE is False


def test_no_request_leaves_while_offline(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with reading_only(offline=True), pytest.raises(OfflineModeIsEnabled):
        huggingface_hub.HfApi().model_info("owner/model")
    with reading_only(offline=False):
        assert constants.HF_HUB_OFFLINE is False
        assert os.environ["DISABLE_SAFETENSORS_CONVERSION"] == "1"
    assert "DISABLE_SAFETENSORS_CONVERSION" not in os.environ


def test_a_revision_with_pickled_weights_only_is_refused_with_the_way_to_convert_them(
    toy_folder, tmp_path, failing, monkeypatch
):
    snapshot = cached(toy_folder, tmp_path, "EleutherAI/pythia-14m", "step512")
    (snapshot / "model.safetensors").unlink()
    failing(http_error(RemoteEntryNotFoundError, 404))
    monkeypatch.setattr(loading, "read_tokenizer", lambda *_: build_tokenizer(toys.LIMIT))
    words = r"no safetensors at revision step512, only pickled weights, .* converted them"
    with pytest.raises(ModelError, match=words):
        load("EleutherAI/pythia-14m", revision="step512", device="cpu", cache_dir=tmp_path)


# -- failures ---------------------------------------------------------------------------------------------------------

GATED = http_error(GatedRepoError, 403, f"403 Client Error\nCannot access gated repo with {TOKEN}")
CASES = {
    "gated": (GATED, ModelError, "is gated: accept its licence .* set HF_TOKEN"),
    "forbidden": (http_error(HfHubHTTPError, 403, f"Bearer {TOKEN}"), ModelError, "is gated"),
    "unknown": (http_error(RepositoryNotFoundError, 404, TOKEN), ModelError, "no model owner/model, or it is private"),
    "revision": (http_error(RevisionNotFoundError, 404, TOKEN), ModelError, "has no revision 'v7' on the hub"),
    "server": (http_error(HfHubHTTPError, 503, TOKEN), EnvironmentFailure, r"cannot be reached \(it answered 503\)"),
    "busy": (http_error(HfHubHTTPError, 429, TOKEN), EnvironmentFailure, r"cannot be reached \(it answered 429\)"),
    "network": (LocalEntryNotFoundError(TOKEN), EnvironmentFailure, "cannot be reached for the configuration"),
    "connection": (ConnectionError(f"refused {TOKEN}"), EnvironmentFailure, "cannot be reached"),
    "disk": (OSError(errno.ENOSPC, f"full {TOKEN}"), EnvironmentFailure, "the disk is full .* --cache-dir"),
    "denied": (
        PermissionError(errno.EACCES, TOKEN, "blobs/1"),
        EnvironmentFailure,
        "no permission for blobs/1, .* --cache-dir",
    ),
    "other": (OSError(f"odd thing with {TOKEN}"), ModelError, r"cannot load the configuration of owner/model .*\*\*\*"),
}


@pytest.mark.parametrize("case", CASES)
def test_each_failure_has_its_class_its_line_and_no_token(failing, monkeypatch, tmp_path, case):
    error, kind, words = CASES[case]
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    failing(error)
    with pytest.raises(kind, match=words) as caught:
        load("owner/model", revision="v7", device="cpu", cache_dir=tmp_path)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert TOKEN not in "".join(traceback.format_exception(caught.value))


MAPPING = "unable to mmap 13700000000 bytes from file <model.safetensors>: Cannot allocate memory (12)"


@pytest.mark.parametrize(
    ("error", "size"),
    [
        (RuntimeError(MAPPING), "weights file has 13.7 GB"),
        (MemoryError("Cannot allocate memory (os error 12)"), "weights have 0.3 MB"),
        (OSError(errno.ENOMEM, "no memory"), "weights have 0.3 MB"),
    ],
)
def test_weights_for_which_there_are_no_addresses_do_not_fit(toy_folder, monkeypatch, error, size):
    def read(*_, **__):
        raise error

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", read)
    monkeypatch.setattr("arithcirc.models.hub.free_bytes", lambda device: 2_500_000_000)
    monkeypatch.setattr("resource.getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    words = f"^toy does not fit: its {size} and 2.5 GB of memory are free: .* a bigger machine$"
    with pytest.raises(EnvironmentFailure, match=words):
        load(str(toy_folder), device="cpu")


def test_a_limit_on_addresses_counts_as_what_is_free(monkeypatch):
    before = psutil.Process().memory_info().vms
    monkeypatch.setattr("resource.getrlimit", lambda _: (before + 10**8, resource.RLIM_INFINITY))
    assert abs(hub._free() - 10**8) < 5 * 10**7
    monkeypatch.setattr("resource.getrlimit", lambda _: (1, 1))
    assert hub._free() == 0


def test_a_long_reason_is_cut_between_words(failing, tmp_path):
    failing(OSError(" ".join(["reason"] * 60)))
    with pytest.raises(ModelError, match=r"(: | )reason \.\.\. - check the name"):
        load("owner/model", device="cpu", cache_dir=tmp_path)


def test_tokens_are_removed_from_any_text(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "unusual-token")
    assert (
        without_tokens(f"a {TOKEN} b unusual-token c Authorization: Bearer xyz") == "a *** b *** c Authorization: ***"
    )
    assert without_tokens("hf_hub_download and hf_xet failed") == "hf_hub_download and hf_xet failed"
