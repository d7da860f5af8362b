"""Two processes give what one gives; what goes wrong in one of them is said once."""

import signal

import pytest
import torch
import toys
from safetensors.torch import load_file

from arithcirc.errors import EnvironmentFailure, RequestError, RunConflictError
from arithcirc.influence.engine import Engine, Settings, linear_modules
from arithcirc.influence.parallel import fit_in_processes, scores_in_processes
from arithcirc.influence.rows import Row, Rows

QUERIES = Rows([Row(tuple((5 * i + j) % 60 for j in range(6)), start=3) for i in range(4)])


def documents(n: int) -> Rows:
    return Rows([Row(tuple((7 * i + j * j) % 60 for j in range(4 + i % 5))) for i in range(n)])


@pytest.fixture(scope="module")
def model():
    return toys.gpt_neox().eval()


def killed(model, batch):
    """A measurement that ends its process, as the system does where memory is short."""
    signal.raise_signal(signal.SIGKILL)


@pytest.mark.slow
def test_two_processes_give_what_one_gives(model, tmp_path):
    tracked, rows = linear_modules(model), documents(41)
    fit_in_processes(model, tracked, tmp_path / "two", rows, settings=Settings(), processes=2)
    one = Engine(model, tracked, tmp_path / "one", settings=Settings(data_partitions=2))
    one.fit(rows)
    made = sorted(file.name for file in (tmp_path / "one" / "factors_ekfac").glob("*.safetensors"))
    assert made == sorted(file.name for file in (tmp_path / "two" / "factors_ekfac").iterdir())
    for name in made:
        alone, together = (load_file(tmp_path / side / "factors_ekfac" / name) for side in ("one", "two"))
        assert all(torch.equal(alone[layer], together[layer]) for layer in alone)
    scores = scores_in_processes(
        model, tracked, tmp_path / "two", QUERIES, rows, settings=Settings(batch_size=8), processes=2
    )
    torch.testing.assert_close(scores, one.scores(QUERIES, rows), rtol=1e-4, atol=1e-3 * scores.abs().max().item())


@pytest.mark.slow
def test_a_process_that_dies_is_said_and_ends_the_rest(model, tmp_path):
    tracked, rows = linear_modules(model), documents(4)
    with pytest.raises(EnvironmentFailure, match="--processes 2 was ended"):
        scores_in_processes(
            model, tracked, tmp_path, QUERIES, rows, settings=Settings("identity"), processes=2, measurement=killed
        )
    with pytest.raises(RunConflictError, match="fit them first"):
        scores_in_processes(model, tracked, tmp_path, QUERIES, rows, settings=Settings(), processes=2)


def test_one_process_needs_no_other(model, tmp_path):
    tracked, rows = linear_modules(model), documents(6)
    fit_in_processes(model, tracked, tmp_path, rows, settings=Settings(), processes=1)
    scores = scores_in_processes(model, tracked, tmp_path, QUERIES, rows, settings=Settings(), processes=1)
    assert torch.equal(scores, Engine(model, tracked, tmp_path).scores(QUERIES, rows))
    with pytest.raises(RequestError, match="--processes 0"):
        fit_in_processes(model, tracked, tmp_path, rows, settings=Settings(), processes=0)
