"""Train a model on a corpus, so that which documents taught it what can be asked: language modelling on every document.

A GPT-NeoX of Pythia's architecture reads each document once per epoch as `BOS text end`, where both are the tokenizer's
end-of-text token as in Pythia's training, and predicts every next token, the end included. Training goes by
`training.trainer`: killed runs resume, checkpoints are Hugging Face folders, each is measured (train_exam.py). Without
dropout, and with every token weighing the same, the trained weights stand near a minimum of the sum of the documents'
losses: what influence functions assume. `retrain` (training/retrain.py) trains again with documents left out.

A corpus is a folder made by `arithcirc influence corpus`, or any JSON lines of documents with a tokenizer beside them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from arithcirc.arithmetic.operators import OperandRange
from arithcirc.errors import PromptError, RequestError
from arithcirc.influence.config import CorpusConfig
from arithcirc.influence.corpus import CorpusFolder
from arithcirc.influence.documents import Query, read_documents, read_queries
from arithcirc.influence.study.encode import Encoder, make_encoder
from arithcirc.influence.train_card import write_card
from arithcirc.influence.train_exam import Exam, Grade, make_exam, read_grades, write_grades
from arithcirc.store import sha256_file
from arithcirc.training.course import Report, Trained
from arithcirc.training.fields import difference
from arithcirc.training.machine import Machine
from arithcirc.training.model import load_step, shaped_config, untrained
from arithcirc.training.retrain import retrain, text_model
from arithcirc.training.text_data import TextBatches, Texts, text_loss, tokens_per_step
from arithcirc.training.text_recipe import TEXT_PRESETS, load_text_recipe
from arithcirc.training.text_recipe import TextRecipe as CorpusRecipe
from arithcirc.training.tokenizer import load_tokenizer
from arithcirc.training.trainer import run_course

__all__ = ["CorpusRecipe", "Material", "load_text_recipe", "open_material", "retrain", "train_on_corpus"]


@dataclass(frozen=True)
class Material:
    """What is trained on: documents as tokens with their kinds, the tokenizer, and what to ask the model.

    `cut` counts documents that are longer than the recipe's `max_tokens` and were truncated; `recipe` has the hashes
    of these documents and this tokenizer.
    """

    recipe: CorpusRecipe
    texts: Texts
    kinds: tuple[str, ...]
    cut: int
    encoder: Encoder
    queries: tuple[Query, ...]
    operands: OperandRange | None

    @property
    def tokenizer(self) -> Any:
        """The Hugging Face tokenizer."""
        return self.encoder.tokenizer

    def exam(self) -> Exam:
        """What every checkpoint is asked."""
        return make_exam(self.encoder, self.texts, self.kinds, self.queries, self.operands)


def open_material(
    corpus: CorpusFolder | Path,
    *,
    recipe: CorpusRecipe | None = None,
    tokenizer: Path | None = None,
    queries: Path | None = None,
) -> Material:
    """Read and encode a corpus folder, or any JSON-lines file of documents with a `tokenizer` folder.

    `queries` is a JSON-lines file asked instead of the folder's. Raises PromptError for a corpus without text,
    TokenizerError for a tokenizer that cannot be read, RequestError where one is missing.
    """
    chosen = recipe or TEXT_PRESETS["neox-corpus"]
    folder = _folder(corpus)
    if folder is None and tokenizer is None:
        raise RequestError(f"{corpus} comes without a tokenizer: give the folder of one, or a corpus folder")
    documents = folder.documents_path if folder else Path(str(corpus))
    place = tokenizer or (folder.tokenizer_path if folder else Path())
    asked = queries or (folder.queries_path if folder else None)
    loaded = load_tokenizer(place)
    config = shaped_config(chosen, vocabulary=len(loaded), bos=0, pad=0)
    encoder = make_encoder(loaded, untrained(config, 0), CorpusConfig(max_tokens=chosen.max_tokens), name=str(place))
    kinds: list[str] = []
    cut: list[str] = []
    texts = Texts.of(
        _rows(documents, encoder, kinds, cut),
        vocabulary=len(loaded),
        bos=encoder.bos,
        pad=encoder.bos if loaded.pad_token_id is None else loaded.pad_token_id,
    )
    return Material(
        recipe=replace(
            chosen,
            documents_sha256=sha256_file(documents),
            tokenizer_sha256=sha256_file(place / "tokenizer.json"),
        ),
        texts=texts,
        kinds=tuple(kinds),
        cut=len(cut),
        encoder=encoder,
        queries=tuple(read_queries(asked)) if asked else (),
        operands=OperandRange.parse(folder.spec.operands) if folder else None,
    )


def _folder(corpus: CorpusFolder | Path) -> CorpusFolder | None:
    """The corpus folder, None for a file."""
    if isinstance(corpus, CorpusFolder):
        return corpus
    return CorpusFolder.open(corpus) if corpus.is_dir() else None


def _rows(path: Path, encoder: Encoder, kinds: list[str], cut: list[str]) -> Iterator[tuple[int, ...]]:
    """Documents as tokens; their kinds, and the names of those that were truncated, are put into the lists."""
    empty = True
    for document in read_documents(path):
        span, tokens = next(encoder.pieces(document.text))
        if len(tokens) < 2:
            continue
        empty = False
        kinds.append(document.kind)
        if span.chunk:
            cut.append(document.id)
        yield tokens
    if empty:
        raise PromptError(f'{path} holds no document: write {{"text": "..."}} on each line')


@dataclass(frozen=True)
class CorpusCourse:
    """A corpus as a course (`training.course.Course`)."""

    material: Material

    @property
    def recipe(self) -> CorpusRecipe:
        """The recipe, with the hashes of documents and tokenizer."""
        return self.material.recipe

    @cached_property
    def _exam(self) -> Exam:
        return self.material.exam()

    def difference(self, path: Path) -> str | None:
        """The first field in which another recipe differs; another corpus differs in its hash."""
        return difference(self.recipe, load_text_recipe(path))

    def model(self) -> Any:
        """The untrained model."""
        return text_model(self.material.texts, self.recipe)

    def batches(self) -> TextBatches:
        """Packed documents, a batch for each step."""
        return TextBatches(self.material.texts, self.recipe)

    def loss(self, logits: Float[Tensor, "row token vocab"], labels: Int[Tensor, "row token"]) -> Tensor:
        """Summed NLL of the step's documents over the mean number of their tokens."""
        return text_loss(logits, labels, tokens_per_step(self.material.texts, self.recipe))

    def save_tokenizer(self, folder: Path) -> None:
        """The corpus' own."""
        self.material.tokenizer.save_pretrained(folder)

    def examine(self, folder: Path, step: int, device: str) -> tuple[Grade, ...]:
        """Measure a checkpoint."""
        return self._exam.measure(load_step(folder, device), step)

    def read_grades(self, out: Path) -> tuple[Grade, ...]:
        """The rows of accuracy.json."""
        return read_grades(out)

    def write_grades(self, out: Path, rows: tuple[Grade, ...]) -> None:
        """Write accuracy.json."""
        write_grades(out, rows)

    def write_card(self, out: Path, rows: tuple[Grade, ...], seconds: float, machine: Machine) -> None:
        """Write the data card."""
        write_card(self.recipe, self.material.texts, self.material.cut, out, rows, seconds, machine)


def train_on_corpus(
    corpus: CorpusFolder | Path | Material,
    out: Path,
    *,
    recipe: CorpusRecipe | None = None,
    tokenizer: Path | None = None,
    queries: Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    report: Report[Grade] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Trained[Grade]:
    """Train, measure and write a model folder `out/step<N>/`; resume it when half done, return it when done.

    Raises as `open_material` and `training.trainer.run_course` do; a folder of another corpus is refused by its hash.
    """
    material = corpus
    if not isinstance(material, Material):
        material = open_material(material, recipe=recipe, tokenizer=tokenizer, queries=queries)
    return run_course(CorpusCourse(material), out, device=device, threads=threads, report=report, stop=stop)
