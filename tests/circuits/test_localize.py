"""Localisation: labels, seeds and the paper's numbers on the golden model."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from arithcirc.arithmetic.operators import ADD, OperandRange, legal_prompts
from arithcirc.arithmetic.pairs import Counterfactual, Pairs, counterfactuals, read_pairs
from arithcirc.arithmetic.tokens import prompt_encoder
from arithcirc.circuits.localize import localize
from arithcirc.components import Head, Mlp, Position
from arithcirc.models.bridge import BridgedModel
from arithcirc.models.load import load


@pytest.fixture(scope="module")
def pairs() -> list[Pairs]:
    legal = legal_prompts(ADD, OperandRange(0, 25), 60)
    clean = legal[np.arange(0, len(legal), 60)]
    return [Pairs(clean, counterfactuals(clean, legal, np.random.default_rng(s))[0]) for s in range(2)]


def test_table_has_a_row_per_site_and_metric(toy_model: BridgedModel, pairs: list[Pairs]) -> None:
    encoder = prompt_encoder(toy_model.tokenizer, vocab_size=toy_model.info.d_vocab)
    effects = localize(toy_model, encoder, pairs)
    table = effects.frame(operator="+", change=Counterfactual.ANY)
    assert len(table) == (3 * 4 + 3) * 4 * 3
    assert not table.duplicated(["position", "layer", "kind", "head", "metric"]).any()
    assert (table["n"] == 2 * len(pairs[0])).all()
    assert table.loc[table["kind"] == "mlp", "head"].isna().all()
    row = table[(table["position"] == "op2") & (table["layer"] == 1) & (table["head"] == 2) & (table["metric"] == "kl")]
    site = [str(s) for s in effects.sites].index("L1H2@op2")
    assert row["mean"].item() == pytest.approx(effects.values[site, :, 2].mean())
    assert row["median"].item() == pytest.approx(np.median(effects.values[site, :, 2]))
    spread = effects.values[site, :, 2].std(ddof=1) / len(effects.values[site]) ** 0.5
    assert row["sem"].item() == pytest.approx(spread)


def test_seeds_are_runs_after_each_other(toy_model: BridgedModel, pairs: list[Pairs]) -> None:
    encoder = prompt_encoder(toy_model.tokenizer, vocab_size=toy_model.info.d_vocab)
    some = {"components": (Head(0, 0), Mlp(2)), "positions": (Position.OP1, Position.EQUALS)}
    both = localize(toy_model, encoder, pairs, **some).values
    single = [localize(toy_model, encoder, [p], **some).values for p in pairs]
    np.testing.assert_allclose(both, np.concatenate(single, axis=1), rtol=1e-4, atol=1e-5)


def test_a_part_that_did_not_change_carries_nothing(toy_model: BridgedModel) -> None:
    """When only op2 differs, nothing before op2 can matter: placebo exactly zero."""
    encoder = prompt_encoder(toy_model.tokenizer, vocab_size=toy_model.info.d_vocab)
    legal = legal_prompts(ADD, OperandRange(0, 25), 60)
    clean = legal[np.arange(0, len(legal), 60)]
    other, found = counterfactuals(clean, legal, np.random.default_rng(0), change=Counterfactual.OP2)
    effects = localize(toy_model, encoder, [Pairs(clean[found], other[found])])
    before = [s.position in (Position.OP1, Position.OPERATOR) for s in effects.sites]
    np.testing.assert_allclose(effects.values[before], 0, atol=2e-5)
    assert np.abs(effects.values[np.logical_not(before)]).max() > 0.1


@pytest.mark.parametrize("name", ["add", "sub"])
def test_golden_effects_of_the_reference(shared: Path, name: str) -> None:
    """The paper's E from its (repaired) released code, on the same pairs: logarithms within .001, same ranking."""
    model = load(str(shared / "models" / "neox-m100"), device="cpu")
    golden = pd.read_csv(shared / "golden" / "neox-m100" / f"{name}_effects.csv")
    pairs, _ = read_pairs(shared / "golden" / "neox-m100" / f"{name}_pairs.csv")
    encoder = prompt_encoder(model.tokenizer, vocab_size=model.info.d_vocab)
    assert encoder.limit == 530
    table = localize(model, encoder, [pairs]).frame(operator="?", change=Counterfactual.ANY)
    table = table[table["metric"] == "E"].assign(head=lambda t: t["head"].fillna(-1).astype(int))
    golden["head"] = pd.to_numeric(golden["head"], errors="coerce").fillna(-1).astype(int)
    both = table.merge(golden, on=["position", "layer", "kind", "head"], validate="1:1")
    assert len(both) == len(table) == len(golden) == 80
    large = both[both["E_mean"].abs() > 1]
    assert len(large) > 40
    np.testing.assert_allclose(np.log10(large["mean"]), np.log10(large["E_mean"]), atol=1e-3)
    small = both[both["E_mean"].abs() <= 1]
    np.testing.assert_allclose(small["mean"], small["E_mean"], atol=1e-4)
    assert both["mean"].rank().corr(both["E_mean"].rank()) > 0.999
