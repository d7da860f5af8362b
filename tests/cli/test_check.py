"""`arithcirc check` on right and wrong engines, and what it refuses."""

import re

import pytest

from arithcirc.models.suffix import SuffixEngine

FEW = ("--patches", "12", "--prompts", "2")


def test_an_exact_model_is_said_to_be(cli, toy_folder):
    done = cli("check", toy_folder, *FEW)
    assert done.code == 0, done.err
    assert done.out.startswith("toy (main, GPTNeoXForCausalLM, float32, cpu)")
    assert "exact up to rounding: 36 patches on 2 prompts differ by at most" in done.out
    assert "within 1e-05 for float32; the speed on a model this small means little" in done.out
    rows = [line.split()[:3] for line in done.out.splitlines() if line.startswith(("head", "mlp", "neuron"))]
    assert rows == [[kind, str(token), "3"] for kind in ("head", "mlp", "neuron") for token in (1, 2, 3, 4)]


def test_times_are_compared_on_larger_models(cli, toy_folder, monkeypatch):
    monkeypatch.setattr("arithcirc.cli.check._TINY", 1)
    assert re.search(r"; here the engine takes \d+\.\d\d of the time", cli("check", toy_folder, *FEW).out)


def test_longer_prompts_and_half_precision(cli, toy_folder):
    done = cli("check", toy_folder, *FEW, "--tokens", "9", "--dtype", "bfloat16")
    assert done.code == 0, done.err
    assert "within 0.1 for bfloat16" in done.out
    assert max(int(line.split()[1]) for line in done.out.splitlines() if line.startswith("head")) == 8


def test_an_engine_that_is_off_by_a_thousandth_fails(cli, toy_folder, monkeypatch):
    real = SuffixEngine._delta
    monkeypatch.setattr(SuffixEngine, "_delta", lambda *given: real(*given) * 1.001)
    done = cli("check", toy_folder, *FEW)
    done.refused("not exact on toy", "more than rounding explains in float32 (1e-05)", code=1)
    assert "neuron" in done.out, "the table is shown all the same"


def test_a_comparison_in_which_nothing_moves_fails(cli, toy_folder, monkeypatch):
    monkeypatch.setattr("arithcirc.measure.exactness._putting", lambda *_: lambda *_: None)
    monkeypatch.setattr(SuffixEngine, "_differs", lambda self, like, *_: [False] * 96)
    cli("check", toy_folder, *FEW).refused("nothing to compare on toy", "give another --seed", code=1)


@pytest.mark.parametrize(
    ("option", "value"),
    [("patches", "0"), ("prompts", "0"), ("tokens", "1"), ("seed", "-1"), ("batch-size", "0")],
)
def test_too_little_is_refused_before_loading(cli, option, value):
    cli("check", "no-such-model", f"--{option}={value}").refused(f"--{option} {value} is too small")


def test_an_unknown_model_is_refused(cli):
    cli("check", "./nowhere").refused("./nowhere does not exist")
