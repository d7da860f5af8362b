"""What a model of a corpus knows at each checkpoint: next tokens by kind of document, queries by group, plain prompts.

    subject              part         items               correct                         nats
    documents            kind         predicted tokens    most likely token is the next   NLL per token
    a group of queries   task         queries             own greedy completion is right  NLL of the true answer
    prompts              + or -       `a+b=`, `a-b=`      most likely token is the answer NLL of the answer

Documents are a seeded sample, the same at every checkpoint; prompts are all with operands of the corpus and results the
tokenizer writes as one token. Numbers are those of the weights on disk, read back in float32. They are of documents
and facts that were trained on: `reasoning` alone asks for something no document holds in full.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from arithcirc.arithmetic.operators import ADD, SUB, OperandRange, fitting_prompts
from arithcirc.errors import NumericsError, RunConflictError
from arithcirc.influence.documents import Query
from arithcirc.influence.rows import IGNORED, Row, collate
from arithcirc.influence.study.completions import complete
from arithcirc.influence.study.encode import Encoder
from arithcirc.store import write_text
from arithcirc.training.text_data import Texts

FILE = "accuracy.json"
DOCUMENTS, PROMPTS = "documents", "prompts"
SAMPLE = 300
"""Documents read at each checkpoint."""
MAX_NEW_TOKENS = 48


@dataclass(frozen=True)
class Grade:
    """One row: of `items`, how many are `correct`; `nats` is the mean per item of the negative log-likelihood."""

    step: int
    subject: str
    part: str
    items: int
    correct: int
    nats: float

    @property
    def value(self) -> float:
        """Share of correct items."""
        return self.correct / self.items


class _Question(NamedTuple):
    """Something the model predicts, under the subject and part it counts for."""

    subject: str
    part: str
    row: Row


@dataclass(frozen=True)
class Exam:
    """What every checkpoint is asked. `queries` are completed, `questions` read once."""

    encoder: Encoder
    questions: tuple[_Question, ...]
    queries: tuple[Query, ...]
    max_new_tokens: int = MAX_NEW_TOKENS

    def measure(self, network: Any, step: int) -> tuple[Grade, ...]:
        """Ask a model in evaluation mode everything. Raises NumericsError when its logits are not finite."""
        nats, right = read(network, [question.row for question in self.questions])
        tallies: dict[tuple[str, str], list[float]] = {}
        for question, cost, hits in zip(self.questions, nats, right, strict=True):
            row = question.row
            tokens = len(row.tokens) - row.start
            items, correct = (tokens, int(hits)) if question.subject == DOCUMENTS else (1, int(hits == tokens))
            _add(tallies, question.subject, question.part, items, correct, float(cost))
        done, skipped = complete(network, self.encoder, self.queries, max_new_tokens=self.max_new_tokens)
        answers = [self._answer(query) for query in self.queries]
        costs = dict(zip((q.id for q in self.queries), read(network, answers)[0], strict=True))
        said = {item.query.id: bool(item.correct) for item in done} | {name: False for name, _ in skipped}
        for query in self.queries:
            _add(tallies, query.group or "queries", query.task, 1, int(said[query.id]), float(costs[query.id]))
        return tuple(
            Grade(step, *key, round(items), round(correct), round(cost / items, 6))
            for key, (items, correct, cost) in tallies.items()
        )

    def _answer(self, query: Query) -> Row:
        """The prompt and its true answer; the loss counts on what follows the prompt."""
        start = len(self.encoder.prompt(query.prompt))
        whole = self.encoder.prompt(f"{query.prompt} {query.answer}")[: self.encoder.context]
        return Row(whole, start=min(start, len(whole) - 1))


def _add(
    tallies: dict[tuple[str, str], list[float]], subject: str, part: str, items: int, correct: int, nats: float
) -> None:
    tally = tallies.setdefault((subject, part), [0.0, 0.0, 0.0])
    for i, value in enumerate((items, correct, nats)):
        tally[i] += value


def make_exam(
    encoder: Encoder,
    texts: Texts,
    kinds: Sequence[str],
    queries: Sequence[Query],
    operands: OperandRange | None,
    *,
    seed: int = 0,
) -> Exam:
    """The exam of a corpus. `kinds` names the kind of every document; without `operands` no plain prompt is asked."""
    numbers = np.sort(np.random.default_rng(seed).permutation(len(texts))[:SAMPLE])
    questions = [_Question(DOCUMENTS, kinds[i], Row(tuple(texts.document(int(i)).tolist()))) for i in numbers]
    for op in (ADD, SUB) if operands is not None else ():
        prompts = fitting_prompts(op, operands or OperandRange(), 10**9)
        for text, answer in zip(prompts.texts(), prompts.answer.tolist(), strict=True):
            prompt, whole = encoder.prompt(text), encoder.prompt(f"{text}{answer}")
            if whole[:-1] == prompt and whole[-1] != encoder.unknown:
                questions.append(_Question(PROMPTS, op.symbol, Row(whole, start=len(prompt))))
    return Exam(encoder, tuple(questions), tuple(queries))


def read(
    network: nn.Module, rows: Sequence[Row], *, batch_size: int = 128
) -> tuple[Float[np.ndarray, "row"], Float[np.ndarray, "row"]]:
    """Of every row: NLL in nats summed over the tokens that count, and how many of them are the most likely token.

    Raises NumericsError when the model's logits are not finite.
    """
    device = next(network.parameters()).device
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i].tokens))
    nats, right = np.zeros(len(rows)), np.zeros(len(rows))
    for start in range(0, len(rows), batch_size):
        members = order[start : start + batch_size]
        batch = {name: value.to(device) for name, value in collate([rows[i] for i in members]).items()}
        labels = batch["labels"][:, 1:]
        with torch.no_grad():
            logits = network(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)
            found = logits.logits[:, :-1].float()
            losses = nn.functional.cross_entropy(found.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")
        if not torch.isfinite(losses).all():
            raise NumericsError("the model's logits are not finite: lower the learning rate and train again")
        nats[members] = losses.sum(1).cpu().numpy()
        right[members] = (found.argmax(-1) == labels).sum(1).cpu().numpy()
    return nats, right


def overall(rows: Sequence[Grade], step: int, subject: str, part: str | None = None) -> Grade | None:
    """All parts of a subject together (or one of them) at a step; None where it was not asked."""
    mine = [r for r in rows if r.step == step and r.subject == subject and part in (None, r.part)]
    if not mine:
        return None
    items = sum(r.items for r in mine)
    return Grade(
        step, subject, part or "", items, sum(r.correct for r in mine), sum(r.nats * r.items for r in mine) / items
    )


def step_line(rows: Sequence[Grade], step: int) -> str:
    """`2.314 nats a token, factual 0.65, reasoning 0.71, a+b= 0.99, a-b= 0.98` for people, as far as it was asked."""
    found = overall(rows, step, DOCUMENTS)
    parts = [f"{found.nats:.3f} nats a token"] if found else []
    subjects = dict.fromkeys(r.subject for r in rows if r.subject not in (DOCUMENTS, PROMPTS))
    for subject in subjects:
        if grade := overall(rows, step, subject):
            parts.append(f"{subject.replace('_', ' ')} {grade.value:.2f}")
    for symbol in ("+", "-"):
        if grade := overall(rows, step, PROMPTS, symbol):
            parts.append(f"a{symbol}b= {grade.value:.2f}")
    return ", ".join(parts)


def write_grades(out: Path, rows: Sequence[Grade]) -> None:
    """Write `accuracy.json`, one row a line."""
    lines = [json.dumps({**asdict(row), "accuracy": round(row.value, 6)}) for row in rows]
    write_text(out / FILE, "[\n" + ",\n".join(lines) + "\n]\n")


def read_grades(out: Path) -> tuple[Grade, ...]:
    """The rows of `accuracy.json`, none when there is no file. Raises RunConflictError when it is damaged."""
    path = out / FILE
    if not path.is_file():
        return ()
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return tuple(Grade(**{k: v for k, v in row.items() if k != "accuracy"}) for row in rows)
    except (ValueError, TypeError, AttributeError):
        raise RunConflictError(f"{path} is damaged: delete {out} and train again") from None
