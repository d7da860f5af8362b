"""Trainings with documents left out, each measured on the same queries and kept on disk.

A training is `training.retrain`: the recipe of the model whose influences are judged, step for step, without the
documents left out. Measured is the NLL in nats of every query's completion, the one that the *whole* model gave. What a
training found lies in a file named by the hash of everything it depends on (texts, recipe, seed, documents kept,
queries), so an interrupted run goes on where it stopped, and nothing is ever taken from another corpus or model.

Cost: one training each, in the share of documents that is kept; with `workers` several at a time. Each uses one thread.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from arithcirc.errors import EnvironmentFailure, RequestError, RunConflictError
from arithcirc.influence.rows import Rows, fingerprint
from arithcirc.influence.train_exam import read
from arithcirc.store import write_json
from arithcirc.training.plan import cpu_threads
from arithcirc.training.processes import end_with_parent
from arithcirc.training.retrain import retrain
from arithcirc.training.text_data import Texts
from arithcirc.training.text_recipe import TextRecipe

Progress = Callable[[int, int], None]
"""Trainings done, trainings that were missing."""


@dataclass(frozen=True, eq=False)
class Left:
    """One training: which documents are kept, and the seed of weights and order (None: the recipe's)."""

    kept: Bool[np.ndarray, "document"]
    seed: int | None = None


@dataclass(frozen=True)
class Retraining:
    """What all trainings share: texts, recipe, what is measured (`rows`, the loss on completions), where results lie.

    Raises RequestError for rows with nothing to measure.
    """

    texts: Texts
    recipe: TextRecipe
    rows: Rows
    folder: Path
    device: str = "cpu"

    def __post_init__(self) -> None:
        empty = [i for i, row in enumerate(self.rows.rows) if max(row.start, 1) >= len(row.tokens)]
        if empty or not len(self.rows):
            raise RequestError(f"query {empty[0] if empty else 0} has no completion to measure: leave it out")

    def nll(self, left: Left) -> Float[np.ndarray, "query"]:
        """NLL in nats of every query after one training, read from disk where it is there."""
        held = self.held(left)
        if held is not None:
            return held
        with cpu_threads(1):  # more threads round otherwise, and training enlarges that
            model = retrain(self.texts, self.recipe, weights=left.kept, seed=left.seed, device=self.device)
            found, _ = read(model, self.rows.rows)
        write_json(self._file(left), {"kept": int(left.kept.sum()), "seed": left.seed, "nll": found.tolist()})
        return found

    def all(
        self, lefts: Sequence[Left], *, workers: int = 1, progress: Progress | None = None
    ) -> Float[np.ndarray, "training query"]:
        """`nll` of many trainings, in their order; equal ones are done once. Raises as `nll` and `retrain` do."""
        if workers < 1:
            raise RequestError(f"workers is {workers}: give 1 or more")
        missing = list({self._file(left): left for left in lefts if self.held(left) is None}.values())
        for done, _ in enumerate(self._train(missing, workers), 1):
            if progress is not None:
                progress(done, len(missing))
        return np.stack([self.nll(left) for left in lefts])

    def held(self, left: Left) -> Float[np.ndarray, "query"] | None:
        """What is on disk of one training; None where it was not done. Raises RunConflictError for a damaged file."""
        file = self._file(left)
        if not file.is_file():
            return None
        try:
            found = np.array(json.loads(file.read_text(encoding="utf-8"))["nll"], dtype=np.float64)
        except (OSError, ValueError, KeyError, TypeError):
            found = np.empty(0)
        if found.shape != (len(self.rows),):
            raise RunConflictError(f"{file} is damaged: delete it and run again, it is computed anew")
        return found

    def _train(self, lefts: list[Left], workers: int) -> Iterator[object]:
        if workers == 1 or len(lefts) < 2:
            yield from (self.nll(left) for left in lefts)
            return
        with ProcessPoolExecutor(
            min(workers, len(lefts)), mp_context=get_context("spawn"), initializer=_begin, initargs=(self,)
        ) as pool:
            waiting = [pool.submit(_work, left) for left in lefts]
            try:
                for future in as_completed(waiting):
                    yield future.result()
            except BrokenProcessPool:
                raise EnvironmentFailure(
                    "a training process was killed, perhaps for want of memory: run again, what is done is kept"
                ) from None
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _file(self, left: Left) -> Path:
        """Where one training's result lies. Raises RequestError where documents kept do not fit the texts."""
        if left.kept.shape != (len(self.texts),) or not left.kept.any():
            raise RequestError(
                f"documents kept have shape {left.kept.shape}, {int(left.kept.sum())} of them: "
                f"say of each of {len(self.texts)} documents whether it is kept, and keep one at least"
            )
        recipe = self.recipe if left.seed is None else replace(self.recipe, seed=left.seed)
        digest = hashlib.sha256(json.dumps(recipe.to_json(), sort_keys=True).encode())
        for array in (self.texts.ids, self.texts.ends):
            digest.update(np.ascontiguousarray(array, dtype=np.int64).tobytes())
        digest.update(np.array([self.texts.vocabulary, self.texts.bos, self.texts.pad], dtype=np.int64).tobytes())
        digest.update(np.packbits(left.kept).tobytes() + fingerprint(self.rows).encode())
        return self.folder / f"{digest.hexdigest()[:24]}.json"


_shared: list[Retraining] = []


def _begin(shared: Retraining) -> None:
    """In a new process: what all trainings share, and an end when the process that asked ends."""
    _shared[:] = [shared]
    end_with_parent()


def _work(left: Left) -> None:
    _shared[0].nll(left)
