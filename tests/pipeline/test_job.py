"""A job checks its request before it writes, and gives every purpose its own random stream."""

import pytest

from arithcirc.config import CircuitConfig, PromptConfig
from arithcirc.errors import PromptError, RequestError
from arithcirc.pipeline.job import fit_operands, open_job
from arithcirc.pipeline.run import stages_for

PROMPTS = PromptConfig(operands="0..30")


@pytest.fixture
def job(toy_model, tmp_path):
    return open_job(toy_model, tmp_path, prompts=PROMPTS)


def test_the_folder_is_named_after_model_and_revision(job, tmp_path):
    assert job.run.path == tmp_path / "toy" / "main"


def test_the_run_records_what_was_loaded_and_seen(job):
    facts = job.run.manifest["facts"]
    assert facts["single_token_limit"] == 60
    assert facts["bos_id"] == facts["bos"]["id"] == 0
    assert facts["bos"] == {"id": 0, "token": "<|endoftext|>", "added_by": "us", "left_out": ()}
    assert facts["tokens"] == {
        "0 bos": "<|endoftext|>",
        "1 op1": "12, one of 0 ... 60",
        "2 operator": "+, one of + - * /",
        "3 op2": "7, one of 0 ... 60",
        "4 equals": "=",
        "5 answer": "19, one of 0 ... 60",
    }
    assert facts["model"]["n_layers"] == 3


def test_random_streams_differ_by_purpose_and_repeat(job):
    draws = [job.rng(*words).random() for words in (("a",), ("b",), ("a", 1), ("a", 2), ("a",))]
    assert draws[0] == draws[4]
    assert len(set(draws)) == 4


def test_operators_spelled_differently_are_the_same_request():
    spelled = [fit_operands(PromptConfig(operators=o, operands=" 0 .. 9"), 60) for o in ("+-", "add,sub", "+ -")]
    assert spelled[0] == spelled[1] == spelled[2]


@pytest.mark.parametrize(
    ("prompts", "circuit", "error"),
    [
        (PromptConfig(operands="0..61"), None, PromptError),
        (PROMPTS, CircuitConfig(mlps="3"), RequestError),
        (PROMPTS, CircuitConfig(rank_by="size"), RequestError),
    ],
)
def test_a_refused_request_writes_nothing(toy_model, tmp_path, prompts, circuit, error):
    with pytest.raises(error):
        open_job(toy_model, tmp_path, prompts=prompts, circuit=circuit)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("goal", "names"),
    [
        ("prompts", ["prompts"]),
        ("localize", ["prompts", "localize"]),
        ("faithfulness", ["prompts", "localize", "means", "faithfulness"]),
    ],
)
def test_a_goal_brings_what_it_needs(goal, names):
    assert [s.name for s in stages_for(goal)] == names


def test_an_unknown_goal_is_refused():
    with pytest.raises(RequestError, match="use one of prompts, localize"):
        stages_for("probes")
