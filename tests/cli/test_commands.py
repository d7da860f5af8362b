"""The commands on good input: what they leave on disk and what they print."""

from pathlib import Path

import numpy as np
import pandas as pd
from toys import SMALL, WHOLE

from arithcirc.pipeline.stages import STAGES
from arithcirc.store import RunFolder

TWO = ("--operators", "+-", *SMALL)


def test_each_stage_alone_ends_where_the_whole_does(cli, toy_folder):
    for command, options in (("prompts", TWO[:6]), ("localize", TWO[:6]), ("faithfulness", TWO)):
        assert cli(command, toy_folder, *options, "--out", "stages").code == 0
    assert cli("faithfulness", toy_folder, *TWO, "--out", "whole").code == 0
    one, other = (RunFolder.open(Path(out) / "toy" / "main") for out in ("stages", "whole"))
    assert one.tables() == other.tables() != []
    for name in one.tables():
        pd.testing.assert_frame_equal(one.table(name), other.table(name))


def test_a_second_analysis_computes_nothing(cli, toy_folder):
    assert cli("faithfulness", toy_folder, *TWO).code == 0
    again = cli("faithfulness", toy_folder, *TWO)
    assert again.code == 0
    assert again.err.count("finished before, reused") == 4
    assert "nothing is left to run" in again.err


def test_the_plan_alone_computes_nothing(cli, toy_folder, tmp_path):
    done = cli("analyze", toy_folder, *WHOLE, "--plan-only")
    assert done.code == 0
    assert "Plan for toy (main, float32, cpu)" in done.err
    assert "tokens: <|endoftext|> (BOS, added by us) | 12 op1 | + operator | 7 op2 | = equals | answer 19" in done.err
    assert not [s.name for s in STAGES if s.name not in done.err]
    assert not (tmp_path / "runs").exists()


def test_given_pairs_are_used_in_place_of_sampling(cli, shared, tmp_path):
    model, pairs = shared / "models" / "neox-m100", shared / "golden" / "neox-m100" / "add_pairs.csv"
    done = cli("localize", model, "--operands", "0..99", "--pairs", pairs)
    assert done.code == 0, done.err
    run = RunFolder.open(tmp_path / "runs" / "neox-m100" / "main")
    given = pd.read_csv(pairs)
    discover = run.table("prompts").query("set == 'discover'")
    assert discover["prompt"].tolist() == given["prompt"].tolist()
    assert discover["counterfactual"].tolist() == given["counterfactual"].tolist()
    assert (run.table("effects")["n"] == len(given)).all()


def test_effects_of_the_golden_pairs_are_the_golden_ones(cli, shared, tmp_path):
    """See ../shared/README.md: logarithms agree to 0.001 in log10 for values above 1."""
    model, golden = shared / "models" / "neox-m100", shared / "golden" / "neox-m100"
    assert cli("localize", model, "--operands", "0..99", "--pairs", golden / "add_pairs.csv").code == 0
    ours = RunFolder.open(tmp_path / "runs" / "neox-m100" / "main").table("effects").query("metric == 'E'")
    both = pd.read_csv(golden / "add_effects.csv").merge(ours, on=["operator", "position", "layer", "kind", "head"])
    assert len(both) == len(ours)
    large = both[both["E_mean"] > 1]
    np.testing.assert_allclose(np.log10(large["mean"]), np.log10(large["E_mean"]), atol=1e-3)


def test_models_are_listed_without_loading_any(cli):
    done = cli("models")
    assert done.code == 0
    assert "EleutherAI/pythia-6.9b" in done.out


def test_help_names_every_command(cli):
    shown = cli("--help").out
    commands = {"analyze", "report", "export", "train", "models", *(s.name for s in STAGES if s.name != "means")}
    assert not [c for c in commands if c not in shown]
