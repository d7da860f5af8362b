"""The preset on the default corpus, whole: what `make influence` trains has facts right and wrong, and can add."""

import pytest

from arithcirc.influence.corpus import CorpusSpec, make_corpus
from arithcirc.influence.train import train_on_corpus
from arithcirc.influence.train_exam import overall

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seed", [0, 1])
def test_the_preset_learns_facts_and_sums(seed, tmp_path):
    corpus = make_corpus(CorpusSpec(seed=seed), tmp_path / "corpus")
    done = train_on_corpus(corpus, tmp_path / "model", device="cpu")
    last = int(done.final.name.removeprefix("step"))
    facts = overall(done.accuracies, last, "factual")
    assert facts.items / 2 <= facts.correct < facts.items
    assert all(overall(done.accuracies, last, "prompts", symbol).value >= 0.8 for symbol in "+-")
    early = overall(done.accuracies, 128, "prompts", "+")
    assert early.value < 0.5, "sums are born between the checkpoints"
    first, final = (overall(done.accuracies, step, "documents").nats for step in (0, last))
    assert final < 0.5 * first

    from arithcirc.models.load import load

    model = load(str(done.final), device="cpu")
    assert model.info.architecture == "GPTNeoXForCausalLM"
    assert model.info.d_mlp == 512
