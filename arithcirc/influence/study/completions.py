"""Stage `queries`: the model's own greedy completion of every prompt, right or wrong, and what it costs in nats.

A completion ends before the end token, before the stop text (a line break where none is given), or after
`max_new_tokens`: a token that would complete the stop text is left out whole. Influence is asked about this
text and no other, as Ruis et al. (arXiv 2411.12580) do. `correct`: the completion begins with the true answer's words,
or its last word is the answer's last (a worked answer), without regard to case and punctuation; unknown where the query
has no answer.

Prompts of equal length are completed together with a key-value cache, so nothing is padded.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from arithcirc.influence.documents import Query
from arithcirc.influence.rows import Row
from arithcirc.influence.study.encode import Encoder

_WORD = re.compile(r"-?\d+(?:\.\d+)?|\w+")
LINE = "\n"
Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Completed:
    """A query, the tokens of its prompt (BOS first) and of its completion, and what they say."""

    query: Query
    prompt: Tokens
    completion: Tokens
    text: str
    full: bool = False
    """Whether it took all the tokens it was given, without an end."""

    @property
    def correct(self) -> bool | None:
        """Whether the completion gives the true answer; None where that is not known."""
        return is_correct(self.text, self.query.answer) if _words(self.query.answer) else None

    @property
    def row(self) -> Row:
        """Prompt and completion; the loss counts on the completion alone."""
        return Row((*self.prompt, *self.completion), start=len(self.prompt))


def complete(
    network: Any, encoder: Encoder, queries: Sequence[Query], *, max_new_tokens: int, stop: str | None = None,
    batch_size: int = 64,
) -> tuple[list[Completed], list[tuple[str, str]]]:  # fmt: skip
    """Greedy completions in the order given, and `(query, why)` of those that have none."""
    prompts = [encoder.prompt(query.prompt) for query in queries]
    groups: dict[int, list[int]] = defaultdict(list)
    for i, prompt in enumerate(prompts):
        groups[len(prompt)].append(i)
    said: dict[int, Tokens] = {}
    for length, members in sorted(groups.items()):
        room = min(max_new_tokens, encoder.context - length)
        for start in range(0, len(members) if room > 0 else 0, batch_size):
            batch = members[start : start + batch_size]
            found = _greedy(network, encoder, [prompts[i] for i in batch], room, stop or LINE)
            said |= dict(zip(batch, found, strict=True))
    done, skipped = [], []
    for i, query in enumerate(queries):
        if i not in said:
            skipped.append((query.id, f"its {len(prompts[i])} tokens fill the context of {encoder.context}"))
        elif not said[i]:
            skipped.append((query.id, "the model completes it with nothing"))
        else:
            room = min(max_new_tokens, encoder.context - len(prompts[i]))
            text = encoder.text(said[i]).strip()
            done.append(Completed(query, prompts[i], said[i], text, full=len(said[i]) == room))
    return done, skipped


def _greedy(network: Any, encoder: Encoder, prompts: list[Tokens], room: int, stop: str) -> list[Tokens]:
    """Completions of prompts of one length."""
    device = next(network.parameters()).device
    rows: list[list[int]] = [[] for _ in prompts]
    open_rows = [True] * len(prompts)
    tokens, cache = torch.tensor(prompts, device=device), None
    with torch.no_grad():
        for _ in range(room):
            out = network(input_ids=tokens, past_key_values=cache, use_cache=True)
            cache, tokens = out.past_key_values, out.logits[:, -1].argmax(-1, keepdim=True)
            for i, token in enumerate(tokens[:, 0].tolist()):
                open_rows[i] = open_rows[i] and not _ends(encoder, rows[i], token, stop)
                if open_rows[i]:
                    rows[i].append(token)
            if not any(open_rows):
                break
    return [tuple(row) for row in rows]


def _ends(encoder: Encoder, row: list[int], token: int, stop: str) -> bool:
    """Whether a completion stops before this token."""
    if token in (encoder.end, encoder.bos):
        return True
    return stop in encoder.text((*row, token)).lstrip()


def run_on(done: Sequence[Completed], encoder: Encoder, max_new_tokens: int) -> str | None:
    """One line about completions that took all their tokens without an end, and more than the true answer has.

    Where none ended by itself, as with a model that has not learnt to end, it names the length of the true answers.
    None where no completion ran on.
    """
    answers = [len(encoder.prompt(c.query.answer)) - 1 if c.query.answer else 0 for c in done]
    filled = sum(c.full and len(c.completion) > n for c, n in zip(done, answers, strict=True))
    if not filled:
        return None
    said = f"{filled} of {len(done)} completions filled --max-new-tokens {max_new_tokens} without an end: "
    longest = max(answers)
    if all(c.full for c in done) and longest:
        return said + (
            f"this model never ended by itself, and all it said is asked about; the true answers have {longest} "
            f"token{'s' * (longest > 1)} at most, so give --max-new-tokens {longest} --replace"
        )
    return said + "all of each is asked about; cut them with --stop TEXT or fewer --max-new-tokens, and --replace"


def is_correct(completion: str, answer: str) -> bool:
    """Whether a completion begins with the answer or ends with its last word."""
    said, true = _words(completion), _words(answer)
    if not said or not true:
        return False
    return said[: len(true)] == true or said[-1] == true[-1]


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
