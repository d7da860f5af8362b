"""How near the curvatures come to the truth: the exact damped block Fisher of a small trained model.

The exact block of a layer is the expectation over the model's own labels of the outer product of the gradient of a
document's summed loss, in closed form: the sum over positions of J_t^T (diag p_t - p_t p_t^T) J_t, J_t the Jacobian of
the logits there. Nothing is sampled and nothing factored.

What was seen on seeds 1 to 3, Pearson of EK-FAC / K-FAC: .93 to .95 / .93 to .95 untrained, .85 to .88 / .85 to .87
after 60 steps (tested here), .71 to .81 / .70 to .80 after 150 and .62 to .80 / .61 to .79 after 600: the longer the
training, the worse both, and their gap is small. With one draw of labels per document, not 16, K-FAC, whose averages
are over tokens, comes out ahead at times.
"""

import numpy as np
import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from arithcirc.influence.engine import Engine, Settings, linear_modules
from arithcirc.influence.rows import Row, Rows, collate, summed_nll

VOCAB, WIDTH, LENGTH, DOCUMENTS, QUERIES, DRAWS, STEPS = 20, 16, 8, 100, 12, 16, 60


def written(seed: int, n: int) -> list[tuple[int, ...]]:
    """Three kinds of texts: counting by a step, two tokens in turn, and keys followed by their values."""
    draw, values, rows = np.random.default_rng(seed), np.random.default_rng(7).integers(10, VOCAB, size=10), []
    for _ in range(n):
        kind, length = int(draw.integers(3)), int(draw.integers(5, LENGTH + 1))
        first, second = (int(x) for x in draw.integers(1, (VOCAB, 5)))
        if kind == 0:
            row = [(first + second * k) % VOCAB for k in range(length)]
        elif kind == 1:
            row = [first if k % 2 else second for k in range(length)]
        else:
            row = [x for key in draw.integers(10, size=length) for x in (int(key), int(values[key]))]
        rows.append((kind + 1, *row)[:length])
    return rows


def trained(seed: int, texts: list[tuple[int, ...]]) -> GPTNeoXForCausalLM:
    config = GPTNeoXConfig(
        vocab_size=VOCAB, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, intermediate_size=WIDTH * 2,
        max_position_embeddings=LENGTH, attention_dropout=0.0, hidden_dropout=0.0, initializer_range=0.1,
        attn_implementation="eager",
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GPTNeoXForCausalLM(config)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
        for _ in range(STEPS):
            batch = collate([Row(texts[i]) for i in torch.randint(len(texts), (32,)).tolist()])
            loss = summed_nll(model(input_ids=batch["input_ids"]).logits, batch["labels"], batch["weight"]) / 32
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval().requires_grad_(False)


def flat(gradients, tracked) -> dict[str, torch.Tensor]:
    """Weights and bias of each layer in one row per gradient."""
    return {
        name: torch.cat([gradients[f"{name}.weight"].flatten(-2), gradients[f"{name}.bias"]], -1).double()
        for name in tracked
    }


def exactly(model, tracked, documents: Rows, queries: Rows) -> torch.Tensor:
    """I(q, d) with every block of the Fisher in full, damped by a tenth of its mean eigenvalue, inverted."""
    parameters = {n: p.detach() for n, p in model.named_parameters() if n.rsplit(".", 1)[0] in tracked}

    def logits(values, tokens):
        return torch.func.functional_call(model, values, (), {"input_ids": tokens[None], "use_cache": False}).logits[0]

    def nll(values, tokens, start):
        losses = -logits(values, tokens).log_softmax(-1)[:-1].gather(-1, tokens[1:, None])[:, 0]
        return losses[start - 1 :].sum()

    fisher: dict[str, torch.Tensor] = {}
    for row in documents:
        tokens = torch.tensor(row.tokens)
        jacobian = flat(torch.func.jacrev(lambda values: logits(values, tokens)[:-1])(parameters), tracked)  # noqa: B023
        p = logits(parameters, tokens)[:-1].softmax(-1).double().detach()
        for name, j in jacobian.items():
            centred = (j - (p[..., None] * j).sum(1, keepdim=True)) * p.sqrt()[..., None]
            rows = centred.flatten(0, 1)
            fisher[name] = fisher.get(name, 0) + rows.T @ rows / len(documents)
    sides = [
        [flat(torch.func.grad(nll)(parameters, torch.tensor(r.tokens), r.start), tracked) for r in side]
        for side in (queries, documents)
    ]
    scores = torch.zeros(len(queries), len(documents), dtype=torch.double)
    for name, block in fisher.items():
        of_queries, of_documents = (torch.stack([one[name] for one in side]) for side in sides)
        damped = block + 0.1 * block.diagonal().mean() * torch.eye(len(block), dtype=torch.double)
        scores += of_queries @ torch.linalg.solve(damped, of_documents.T)
    return scores


def agreement(seed: int, folder) -> dict[str, float]:
    """Pearson of each strategy's scores, over all queries and documents, with the exact ones."""
    texts = written(seed, DOCUMENTS)
    model = trained(seed, texts)
    tracked = linear_modules(model)
    documents = Rows([Row(text) for text in texts])
    drawn = Rows(documents.rows * DRAWS)  # labels are drawn anew for every row, so that sampling noise is small
    queries = Rows([Row(text, start=len(text) - 2) for text in written(seed + 1000, QUERIES)])
    expected = exactly(model, tracked, documents, queries)
    found = {}
    for strategy in ("ekfac", "kfac", "diagonal", "identity"):
        engine = Engine(model, tracked, folder / f"{strategy}{seed}", settings=Settings(strategy, batch_size=100))
        engine.fit(drawn)
        scores = engine.scores(queries, documents).double()
        found[strategy] = float(torch.corrcoef(torch.stack([scores.flatten(), expected.flatten()]))[0, 1])
    return found


@pytest.mark.parametrize("seed", [11])
def test_ekfac_comes_nearest_to_the_exact_fisher(seed, tmp_path):
    found = agreement(seed, tmp_path)
    assert found["ekfac"] >= 0.75
    assert found["ekfac"] > found["kfac"] > found["diagonal"] > found["identity"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [12, 13, 14, 15])
def test_the_order_holds_on_fresh_seeds(seed, tmp_path):
    found = agreement(seed, tmp_path)
    assert found["ekfac"] >= 0.75
    assert found["ekfac"] > found["kfac"] > found["diagonal"] > found["identity"]
