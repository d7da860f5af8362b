"""The folder of fitted factors: whose they are, which are there, and that none of them is half written.

kronfluence reuses a file because it exists. So every step computes in a scratch folder beside (`.<strategy>-...`, with
links to what is there already) and its files are moved over when they are whole and finite; `factors_<strategy>.json`
says of which weights, layers and documents they are. A kill at any moment costs the step under way, nothing else.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from arithcirc.errors import NumericsError, RunConflictError
from arithcirc.store import environment_errors, write_json

COVARIANCES = (
    "activation_covariance", "gradient_covariance", "num_activation_covariance_processed",
    "num_gradient_covariance_processed",
)  # fmt: skip
EIGENBASES = ("activation_eigenvectors", "activation_eigenvalues", "gradient_eigenvectors", "gradient_eigenvalues")
LAMBDAS = ("lambda_matrix", "num_lambda_processed")
STAGES = {"covariance": COVARIANCES, "eigen": EIGENBASES, "lambda": LAMBDAS}
"""Files of each stage of a fit, in kronfluence's names."""
NEEDED = {
    "ekfac": ("covariance", "eigen", "lambda"),
    "kfac": ("covariance", "eigen"),
    "diagonal": ("lambda",),
    "identity": (),
}
"""Stages of each strategy."""
ARGUMENTS = "factor_arguments.json"
"""kronfluence's own note of its settings, written anew in every scratch folder."""
_LENGTHS = ("data_partitions", "module_partitions")


def weights_sha256(model: nn.Module) -> str:
    """sha256 of all parameters, by name, shape and bytes."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        value = parameter.detach().cpu().contiguous()
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class FactorFolder:
    """Factors of one strategy below `folder`, for the weights, layers and settings in `key`."""

    def __init__(self, folder: Path, strategy: str, key: Mapping[str, Any]) -> None:
        self.folder, self.strategy, self.key = folder, strategy, dict(key)
        self.path = folder / f"factors_{strategy}"
        self._record = folder / f"factors_{strategy}.json"

    def claim(self, documents: Mapping[str, Any]) -> None:
        """Say that what follows is of this key and these documents, and clear away what a killed fit left.

        Raises RunConflictError where factors of something else are there, or factors that nobody can name.
        """
        asked = {**self.key, **documents}
        if (held := self._held()) is None and any(self.path.glob("*.safetensors")):
            raise RunConflictError(
                f"{self.path} holds factors, but nothing says of which weights: delete it, or choose another --out"
            )
        if held is not None:
            self._compare(asked, held)
            if any(asked[name] != held.get(name) for name in _LENGTHS) and not self.finished():
                self.drop_partitions()
        self._drop_incomplete()
        for left in self.folder.glob(f".{self.strategy}-*"):
            shutil.rmtree(left, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self._record, asked)

    def check(self) -> None:
        """Raise RunConflictError where the factors are not there, not all there, or those of something else."""
        if not NEEDED[self.strategy]:
            return
        if (held := self._held()) is None or not self.finished():
            raise RunConflictError(f"{self.folder} has no finished {self.strategy} factors: fit them first")
        self._compare(self.key, held)

    def _held(self) -> dict[str, Any] | None:
        if not self._record.is_file():
            return None
        try:
            return dict(json.loads(self._record.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise RunConflictError(f"{self._record} is damaged ({error}): delete {self.folder}, fit again") from None

    def _compare(self, asked: Mapping[str, Any], held: Mapping[str, Any]) -> None:
        wrong = [name for name, value in asked.items() if name not in _LENGTHS and held.get(name) != value]
        if wrong:
            said = "; ".join(f"{name}: {_short(held.get(name))}, asked for {_short(asked[name])}" for name in wrong)
            raise RunConflictError(
                f"the {self.strategy} factors in {self.folder} are of something else ({said}): "
                "choose another --out, or delete the folder and fit again"
            )

    def has(self, stage: str, partition: tuple[int, int] | None = None) -> bool:
        """True when every file of a stage, or of one partition (data, module) of it, is there."""
        return all((self.path / _file(name, partition)).is_file() for name in STAGES[stage])

    def finished(self) -> bool:
        """True when nothing is left to fit."""
        return all(self.has(stage) for stage in NEEDED[self.strategy])

    def _drop_incomplete(self) -> None:
        """Remove files of a stage, or of a partition, of which some were moved over and some not."""
        for file in self.path.glob("*.safetensors"):
            name, found, partition = file.stem.partition("_data_partition")
            stage = next((names for names in STAGES.values() if name in names), ())
            if any(not (self.path / f"{other}{found}{partition}.safetensors").is_file() for other in stage):
                file.unlink(missing_ok=True)

    def drop_partitions(self) -> None:
        """Remove the files of single partitions."""
        for file in self.path.glob("*_data_partition*.safetensors"):
            file.unlink(missing_ok=True)

    @contextmanager
    def scratch(self, *, keep: bool) -> Iterator[Path]:
        """A folder that shows all factors; what is written there is moved over at the end if `keep`.

        Raises NumericsError where a new factor is not finite, EnvironmentFailure where the disk refuses.
        """
        with environment_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            holder = TemporaryDirectory(dir=self.folder, prefix=f".{self.strategy}-")
        with holder as name:
            inner = Path(name).resolve() / self.path.name
            inner.mkdir()
            for file in self.path.glob("*.safetensors"):
                (inner / file.name).symlink_to(file.resolve())
            yield inner.parent
            if keep:
                made = [file for file in inner.glob("*.safetensors") if not file.is_symlink()]
                for file in made:
                    _check_finite(file)
                with environment_errors(self.path):
                    for file in made:
                        file.replace(self.path / file.name)


def _file(name: str, partition: tuple[int, int] | None) -> str:
    part = "" if partition is None else f"_data_partition{partition[0]}_module_partition{partition[1]}"
    return f"{name}{part}.safetensors"


def _short(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"{len(value)} layers" if value else "none"
    return str(value)[:12]


def _check_finite(file: Path) -> None:
    try:
        with safe_open(str(file), framework="pt") as held:
            for layer in held.keys():  # noqa: SIM118
                if not torch.isfinite(held.get_tensor(layer)).all():
                    raise NumericsError(
                        f"the {file.stem.replace('_', ' ')} of {layer} is not finite: the model's gradients overflow; "
                        "use --dtype float32 and leave mixed precision off"
                    )
    except SafetensorError as error:
        raise RunConflictError(f"{file.name} is damaged ({error}): fit again") from None
