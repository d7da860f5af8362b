"""Configurations refuse nonsense by the option's name, and say where they differ."""

from dataclasses import FrozenInstanceError, replace

import pytest

from arithcirc.cli.options import (
    CircuitOptions,
    HeuristicOptions,
    KnockoutOptions,
    MapsOptions,
    NeuronOptions,
    ProbeOptions,
    PromptOptions,
)
from arithcirc.config import (
    CircuitConfig,
    HeuristicConfig,
    KnockoutConfig,
    MapsConfig,
    ModelConfig,
    NeuronConfig,
    ProbeConfig,
    PromptConfig,
    RunConfig,
    differing_fields,
)
from arithcirc.errors import ArithcircError, EnvironmentFailure, PromptError, RequestError

RUN = RunConfig(ModelConfig("toy", "main", "w", "t", "float32"))


@pytest.mark.parametrize(
    ("kind", "field", "value", "option"),
    [
        (PromptConfig, "n_discover", 0, "--prompts 0"),
        (PromptConfig, "n_evaluate", -3, "--prompts -3"),
        (PromptConfig, "counterfactual_seeds", 0, "--counterfactual-seeds 0"),
        (PromptConfig, "seed", -1, "--seed -1"),
        (CircuitConfig, "n_heads", -1, "--heads -1"),
        (CircuitConfig, "target", 0.0, "--target 0"),
        (CircuitConfig, "target", 1.5, "--target 1.5"),
        (CircuitConfig, "target", float("nan"), "--target nan"),
        (CircuitConfig, "random_circuits", 0, "--random-circuits 0"),
        (CircuitConfig, "mean_prompts", 0, "--mean-prompts 0"),
        (ProbeConfig, "prompts", 9, "--probe-prompts 9"),
        (ProbeConfig, "learning_rate", 0.0, "--probe-lr 0"),
        (ProbeConfig, "learning_rate", float("nan"), "--probe-lr nan"),
        (ProbeConfig, "batch", 0, "--probe-batch 0 "),
        (ProbeConfig, "epochs", -1, "--probe-epochs -1 "),
        (NeuronConfig, "top", 0, "--top-neurons 0"),
        (NeuronConfig, "first_layer", -1, "--first-layer -1"),
        (NeuronConfig, "random_draws", 0, "--random-neurons 0"),
        (HeuristicConfig, "threshold", 0.0, "--threshold 0"),
        (HeuristicConfig, "threshold", 1.1, "--threshold 1.1"),
        (HeuristicConfig, "threshold", float("nan"), "--threshold nan"),
        (HeuristicConfig, "q", 0.0, "--q 0"),
        (HeuristicConfig, "q", 2.0, "--q 2"),
        (HeuristicConfig, "draws", 19, "--null-draws 19"),
        (KnockoutConfig, "prompts", 0, "--knockout-prompts 0 "),
        (KnockoutConfig, "by_prompt", 0, "--by-prompt 0 "),
        (KnockoutConfig, "failures", -2, "--failures -2 "),
        (MapsConfig, "top", -1, "--maps -1 "),
        (KnockoutConfig, "labels", "all", "--labels 'all'.*matched or significant"),
    ],
)
def test_bad_values_are_refused_by_the_options_name(kind, field, value, option):
    with pytest.raises(RequestError, match=option):
        kind(**{field: value})


def test_no_circuit_heads_is_allowed():
    assert CircuitConfig(n_heads=0).n_heads == 0


def test_sections_are_plain_values():
    assert set(RUN.sections()) == {"model", "prompts", "circuit", "probe", "neurons", "heuristics", "knockout", "maps"}
    assert RUN.section("model")["name"] == "toy"
    assert RUN.section("prompts")["seed"] == 0
    assert RUN.section("neurons") == {"top": None, "first_layer": None, "random_draws": 5}
    assert RUN.section("heuristics")["threshold"] == 0.6


def test_the_options_defaults_are_the_configurations():
    made = (PromptOptions, CircuitOptions, ProbeOptions, NeuronOptions, HeuristicOptions, KnockoutOptions, MapsOptions)
    names = ("prompts", "circuit", "probe", "neurons", "heuristics", "knockout", "maps")
    assert {name: make().config() for name, make in zip(names, made, strict=True)} == {
        name: getattr(RUN, name) for name in names
    }


def test_a_difference_names_the_field_and_both_values():
    other = replace(RUN, prompts=PromptConfig(seed=7, operands="0..99"))
    assert differing_fields(other.section("prompts"), RUN.section("prompts")) == [
        "operands: '0..299' in the folder, '0..99' asked",
        "seed: 0 in the folder, 7 asked",
    ]
    assert differing_fields(RUN.section("prompts"), RUN.section("prompts")) == []


def test_a_field_that_one_side_lacks_is_a_difference():
    assert differing_fields({"a": 1}, {}) == ["a: None in the folder, 1 asked"]


def test_configurations_are_frozen():
    with pytest.raises(FrozenInstanceError):
        RUN.prompts.seed = 1


def test_errors_are_one_line_with_their_exit_code():
    assert str(PromptError("one\n  two")) == "one two"
    assert (ArithcircError.exit_code, RequestError.exit_code, EnvironmentFailure.exit_code) == (1, 2, 1)
