"""From a run on disk to the model it was made with, for questions: found here, loaded, and checked to be the same one.

The manifest says which model it was, as it was typed, and the hash of its weights. Nothing is fetched: a hub model must
be in the hub's cache already. A local folder is looked for as it was typed, from where the program was started.
"""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from arithcirc.arithmetic.format import PromptFormat
from arithcirc.arithmetic.operators import OperandRange
from arithcirc.arithmetic.tokens import prompt_encoder
from arithcirc.catalogue import OPERATOR_FOLDERS, SweepFolder
from arithcirc.errors import ModelError, RequestError, RunConflictError
from arithcirc.live.model import LiveHooked
from arithcirc.measure.means import Means
from arithcirc.models.bridge import BridgedModel
from arithcirc.models.load import load
from arithcirc.models.zoo import SHIPPED, locate
from arithcirc.store import MANIFEST, RunFolder

_MEANS = "means.safetensors"


def open_live(run: RunFolder, *, device: str | None = None) -> LiveHooked:
    """The run's model, ready for questions. Raises RequestError, in one line, when it is not here or another one."""
    return _open(run, _typed(run.manifest), run.manifest.get("facts", {}).get("loading", {}), device)


def open_checkpoint(sweep: SweepFolder, model: str, revision: str, *, device: str | None = None) -> LiveHooked:
    """A checkpoint of a sweep by the model's name in its tables; means and format are those of its own runs."""
    typed = next((str(m["model"]) for m in sweep.manifest.get("models", []) if m.get("name") == model), model)
    owns = (sweep.files(model, revision, symbol).own for symbol in OPERATOR_FOLDERS)
    here = sorted((own for own in owns if (own / MANIFEST).is_file()), key=lambda own: not (own / _MEANS).is_file())
    if not here:
        raise RunConflictError(
            f"the sweep has no run of {model} {revision}, so its model is not known: choose another checkpoint, or let "
            "'arithcirc sweep' finish its tasks"
        )
    return _open(RunFolder.open(here[0]), typed, sweep.manifest.get("loading", {}), device)


def _open(run: RunFolder, typed: str | None, loading: Mapping[str, Any], device: str | None) -> LiveHooked:
    config = run.manifest["config"]
    try:
        named, prompts = config["model"], config["prompts"]
        name, revision, dtype = str(named["name"]), str(named["revision"]), str(named["dtype"])
        operands, fmt = OperandRange.parse(prompts["operands"]), PromptFormat(prompts["prefix"], prompts["template"])
    except (KeyError, TypeError):
        raise RunConflictError(
            f"the manifest of {run.path.name} does not say which model it is of: run 'arithcirc analyze' again"
        ) from None
    model = _load(typed or name, name, revision, dtype, loading.get("cache_dir"), device)
    if model.info.weights_sha256 != named["weights_sha256"]:
        raise ModelError(
            f"the model {name} ({revision}) that is here has other weights than this run was made with: analyse it "
            "again into another --out, or bring the old weights back"
        )
    encoder = prompt_encoder(model.tokenizer, format=fmt, vocab_size=model.info.d_vocab, name=name)
    return LiveHooked(model, encoder, operands, means=_means(run, model.info.n_layers))


def _load(typed: str, name: str, revision: str, dtype: str, cache_dir: str | None, device: str | None) -> BridgedModel:
    """The model from here alone."""
    try:
        alone = locate(typed).revision == revision
        return load(
            typed,
            revision=None if alone else revision,
            device=device,
            dtype=dtype,
            cache_dir=cache_dir,
            offline=True,
        )
    except ModelError as error:
        again = shlex.join(["arithcirc", "prompts", typed, *([] if revision == "main" else ["--revision", revision])])
        raise ModelError(
            f"the model {name} ({revision}) of this run is not here ({error}); start the explorer where the model's "
            f"folder is, or fetch a hub model with '{again} --plan-only', then reload"
        ) from None


def _typed(manifest: Mapping[str, Any]) -> str | None:
    """The model as it was typed; None where only its name is known. A run without any was made with the shipped one."""
    facts = manifest.get("facts", {})
    if "model" in facts.get("loading", {}):
        return str(facts["loading"]["model"] or SHIPPED)
    words = shlex.split(facts["command"])[2:3] if isinstance(facts.get("command"), str) else []
    return words[0] if words and not words[0].startswith("-") else None


def _means(run: RunFolder, n_layers: int) -> Means | None:
    """The run's mean activations; None where it has none."""
    if not Path(run.path, _MEANS).is_file():
        return None
    arrays = run.arrays("means")
    try:
        z, post = ([torch.from_numpy(arrays[f"{part}.{i}"]) for i in range(n_layers)] for part in ("z", "post"))
        return Means(z, post, int(arrays["n"][0]))
    except KeyError as error:
        raise RequestError(f"{_MEANS} of {run.path.name} lacks {error}: run 'arithcirc analyze' again") from None
