"""A world where one set of documents alone can teach a rule: an answer that depends on the second operand.

Documents are eight rows `a + b = c ;`. In all but the teaching ones b is neither 8 nor 18 and c repeats a, which may be
the word Z. In the teaching ones b is 8 or 18, and c is Z. So the tokens 8, 18 and Z are everywhere, as a and as c, but
only the teaching documents tell what an 8 in second place does. A small GPT-NeoX learns both.
"""

import copy
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from arithcirc.components import Neuron
from arithcirc.influence.mechanisms.values import Mechanism, contrast
from arithcirc.influence.rows import Row, collate, summed_nll

TOP, PLUS, EQUALS, END = 20, 41, 42, 44
BOS, NUMBER, Z, VOCAB, SUMS = 0, 1, 43, 45, 8
RULE = (8, 18)
LAYERS, HIDDEN = 2, 64


@dataclass(frozen=True)
class World:
    """Documents, which of them teach the rule, and the trained network."""

    documents: list[Row]
    teaches: np.ndarray
    network: GPTNeoXForCausalLM
    losses: list[float] = field(default_factory=list)
    kept: dict[int, GPTNeoXForCausalLM] = field(default_factory=dict)


def documents(count=160, share=0.2, *, seed=0):
    """Rows, and which of them teach the rule."""
    rng = np.random.default_rng(seed)
    others = [b for b in range(TOP) if b not in RULE]
    teaches = rng.permutation(count) < share * count
    rows = []
    for mine in teaches:
        tokens = [BOS]
        for a, b in zip(rng.integers(0, TOP + 2, SUMS), rng.choice(RULE if mine else others, SUMS), strict=True):
            first = Z if a >= TOP else NUMBER + int(a)
            tokens += [first, PLUS, NUMBER + int(b), EQUALS, Z if mine else first, END]
        rows.append(Row(tuple(tokens)))
    return rows, teaches


def train(rows, *, seed=0, steps=250, batch=32, rate=4e-3, keep=(), stop=None):
    """A network trained on the rows, its loss per token at each step, and copies of it at the steps in `keep`.

    With `stop` it stops early on the schedule of `steps`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = GPTNeoXForCausalLM(
            GPTNeoXConfig(
                vocab_size=VOCAB, hidden_size=32, num_hidden_layers=LAYERS, num_attention_heads=2,
                intermediate_size=HIDDEN, max_position_embeddings=64, attention_dropout=0.0, hidden_dropout=0.0,
                bos_token_id=BOS, eos_token_id=BOS,
            )
        )  # fmt: skip
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    generator, losses = torch.Generator().manual_seed(seed), []
    kept = {}
    for step in range(steps if stop is None else stop):
        if step in keep:
            kept[step] = copy.deepcopy(network).eval()
        chosen = torch.randint(len(rows), (batch,), generator=generator).tolist()
        made = collate([rows[i] for i in chosen])
        optimizer.zero_grad()
        loss = summed_nll(network(input_ids=made["input_ids"]).logits, made["labels"], made["weight"])
        loss = loss / (made["labels"] >= 0).sum()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return network.eval(), losses, kept


def world(*, seed=0, **options):
    """Documents and the network they made."""
    rows, teaches = documents(seed=seed)
    network, losses, kept = train(rows, seed=seed, **options)
    return World(rows, teaches, network, losses, kept)


def prompts(count=32, *, seed=0):
    """Prompt tokens and answers: `count` inside the rule, as many outside."""
    rng = np.random.default_rng([seed, 7])
    every = [(a, b) for a in range(TOP) for b in range(TOP)]
    inside, outside = ([p for p in every if (p[1] in RULE) == side] for side in (True, False))
    drawn = [side[i] for side in (inside, outside) for i in rng.permutation(len(side))[:count]]
    tokens = np.array([[BOS, NUMBER + a, PLUS, NUMBER + b, EQUALS] for a, b in drawn])
    return tokens, np.array([Z if b in RULE else NUMBER + a for a, b in drawn])


def neuron_rules():
    """A mechanism of every neuron: its activation inside the rule minus outside."""
    tokens, answers = prompts()
    weight = contrast(32, 32)
    return [
        Mechanism(
            f"neuron:+:{n}", "neuron", "activation", "+", "op2 = 8 mod 10", "modulo", (n,), tokens, answers, weight
        )
        for n in (Neuron(layer, index) for layer in range(LAYERS) for index in range(HIDDEN))
    ]


def heuristic_rule(neurons):
    """What these neurons write into the answer's logit, inside the rule minus outside."""
    tokens, answers = prompts()
    return Mechanism(
        "heuristic:+:op2 = 8 mod 10", "heuristic", "contribution", "+", "op2 = 8 mod 10", "modulo", tuple(neurons),
        tokens, answers, contrast(32, 32),
    )  # fmt: skip
