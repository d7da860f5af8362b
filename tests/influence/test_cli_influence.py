"""`arithcirc influence` from the command line: a whole small study, and what is refused in one line."""

from dataclasses import dataclass

import pytest
from studied import ASKED, corpus, toy

from arithcirc.cli.main import run
from arithcirc.store import RunFolder


@dataclass(frozen=True)
class Said:
    """Exit code and output of one command."""

    code: int
    out: str
    err: str

    def refused(self, *words: str, code: int = 2) -> None:
        """One line that names these words, the last of stderr, no traceback."""
        lines = [line for line in self.err.splitlines() if line.startswith("arithcirc: ")]
        assert (self.code, lines) == (code, self.err.splitlines()[-1:]), self.err
        assert not [w for w in words if w not in lines[0]], lines[0]
        assert "unexpected" not in lines[0]
        assert "Traceback" not in self.out + self.err


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """`call("fit", folder, ...)` in an empty working folder."""
    monkeypatch.chdir(tmp_path)

    def called(*arguments: object) -> Said:
        capsys.readouterr()
        code = run(["influence", *map(str, arguments)])
        return Said(code, *capsys.readouterr())

    return called


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    return corpus(tmp_path_factory.mktemp("cli_corpus"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli_model") / "toy"
    toy(folder)
    return folder


LIMITS = ("--max-tokens", ASKED.max_tokens)


def test_a_study_from_the_command_line(call, model, given, tmp_path):
    options = (model, "--corpus", given, "--device", "cpu")
    planned = call("fit", *options, *LIMITS, "--plan-only")
    assert planned.code == 0
    assert "Plan for toy (main, cpu)" in planned.err
    assert not (tmp_path / "runs").exists()
    fitted = call("fit", *options, *LIMITS)
    assert fitted.code == 0
    assert "longer than 20 tokens: truncated" in fitted.err
    study = fitted.out.strip().removeprefix("factors: ")
    call("report", model).refused("score")
    scored = call("score", *options, "--max-new-tokens", 3, "--partition", 16)
    assert scored.code == 0, scored.err
    assert "reasoning" in scored.out
    assert "1 of 7 left out ('long'" in scored.err
    assert "completions filled --max-new-tokens 3 without an end" in scored.err
    held = RunFolder.open(study)
    assert {"documents", "factors", "queries", "scores"} <= held.manifest["stages"].keys()
    assert held.manifest["facts"]["command"].startswith("arithcirc influence score")
    again = call("score", *options)
    assert "finished before, reused" in again.err
    call("score", *options, "--damping", 0.5).refused("scores: damping", "--replace")
    call("score", *options, "--stop", "").refused("--stop is empty")
    call("score", *options, "--layers", "attention").refused("factors:", "layers")
    call("score", *options, "--mechanisms").refused("no labelled neurons", "arithcirc analyze")
    call("score", *options, "--births").refused("no labelled neurons, which --births needs", "arithcirc analyze")
    asked = call("score", *options, "--mechanism", "neuron:+:L1N20")
    asked.refused("--mechanism 'neuron:+:L1N20'", "no labelled neurons", "arithcirc analyze")
    call("score", *options, "--no-mechanisms", "--births").refused("--births", "--no-mechanisms")
    call("score", *options, "--partition", 16, "--partitions", "5..9").refused("--partitions 5", "0..1")


def test_requests_that_cannot_be_met(call, model, given, tmp_path):
    options = ("--corpus", given, "--device", "cpu")
    call("fit", model).refused("--corpus")
    call("fit", tmp_path / "none", *options).refused("none")
    call("fit", model, "--corpus", tmp_path / "gone.jsonl").refused("gone.jsonl is not there")
    call("fit", model, *options, "--max-tokens", 1).refused("--max-tokens 1")
    call("fit", model, *options, "--long", "fold").refused("--long 'fold'", "truncate")
    call("fit", model, *options, "--layers", "heads").refused("--layers 'heads'")
    call("fit", model, *options, "--fit-documents", 0).refused("--fit-documents 0")
    call("fit", model, *options, "--batch-size", 0).refused("--batch-size 0")
    call("score", model, *options).refused("arithcirc influence fit")
    call("score", model, *options, "--partitions", "a..b").refused("--partitions 'a..b'")
    call("score", model, *options, "--damping", 0).refused("--damping 0.0")
    call("report", tmp_path).refused()
    call("sweep", model, *options, "--plan-only").refused("--plan-only")
    call("sweep", model, *options, "--executor", "moon").refused("--executor 'moon'")


def test_layers_that_cannot_be_tracked_are_listed(call, given, tmp_path):
    import toys

    folder = toys.save(toys.gpt2(), tmp_path / "gpt2")
    call("fit", folder, "--corpus", given, "--device", "cpu").refused("Conv1D", "torch.nn.Linear")


def test_a_corpus_from_the_command_line(call, tmp_path):
    made = call("corpus", "--out", tmp_path / "made", "--documents", 200, "--factual", 4, "--controls", 2)
    assert made.code == 0, made.err
    assert "200 documents" in made.out
    assert (tmp_path / "made" / "queries.jsonl").is_file()
    call("corpus", "--out", tmp_path / "made", "--documents", 300).refused("another corpus")
    again = call("corpus", "--out", tmp_path / "made", "--documents", 200, "--factual", 4, "--controls", 2)
    assert (again.code, again.out) == (0, made.out)
    assert "already there" in again.err
    assert "0/200" not in again.err


def test_the_bare_command_shows_its_help(call):
    said = call()
    assert said.code == 0
    assert all(name in said.out for name in ("corpus", "train", "fit", "score", "sweep", "report"))
