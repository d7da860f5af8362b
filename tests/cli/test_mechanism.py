"""`probe`, `neurons`, `heads`, `heuristics`, `knockout`, `failures`, `maps`: what they print, and what they refuse."""

import re
from pathlib import Path

import pandas as pd
import pytest
from toys import LABELLED, PROBED, RANKED, SMALL, WHOLE, contents

from arithcirc.cli import show_mechanism
from arithcirc.store import MANIFEST, RunFolder

ONLY = ("--operators", "+-")
COMMANDS = {
    "probe": ((*SMALL[:4], *PROBED[6:]), ["probes", "first_layers"]),
    "heads": (PROBED, ["heads", "head_copies", "head_cuts"]),
    "neurons": (RANKED, ["neurons", "neuron_agreement", "neuron_faithfulness"]),
    "heuristics": (LABELLED, ["heuristics", "label_summary", "answers"]),
    "knockout": (WHOLE, ["knockouts_by_heuristic", "knockouts_by_prompt", "bag_of_heuristics"]),
    "failures": (WHOLE, ["failures", "failure_tests"]),
    "maps": ((*LABELLED, "--maps", "3"), []),
}
LINES = {
    "probe": [r"first heuristics layer \d: \d of 60 prompts tried are answered correctly, a probe needs 10"],
    "heads": [r"heads by attention from '=' and what is decoded: L\dH\d \w+ \d\.\d\d"],
    "neurons": [r"20 of 192 neurons are important; strongest \(nats\): L\dN\d+ ", r"top-10 overlap \d\.\d\d"],
    "heuristics": [r"\d+ of 20 neurons have a label at the threshold, \d+ a significant one.*; most frequent: "],
    "knockout": [r": (holds\.|DOES NOT HOLD\.|not tested:) \S"],
    "failures": [r"(neurons|contribution): median .* when right, .* when wrong, p = "],
    "maps": [r"activation maps of 3 neurons: \S*maps_add\.safetensors", r"of 3 neurons: \S*maps_sub\.safetensors"],
}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for runs that all commands share, so that each adds its stage to what the others did."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def there(cli, toy_folder, out):
    """`there("knockout", ...)`: a command on the toy in the shared folder, with all options of a small analysis."""

    def call(command: str, *more: object):
        return cli(command, toy_folder, *COMMANDS[command][0], *ONLY, "--out", out, *more)

    return call


@pytest.fixture
def run(there, out) -> RunFolder:
    """The shared run with all its stages."""
    for command in ("knockout", "heads", "failures"):
        if not (out / "toy" / "main" / f"{COMMANDS[command][1][0]}.parquet").exists():
            assert there(command).code == 0
    return RunFolder.open(out / "toy" / "main")


# -- what they do -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_says_and_writes_what_it_found(there, out, command):
    done = there(command)
    assert done.code == 0, done.err
    said = " ".join(done.out.split())
    assert not [line for line in LINES[command] if not re.search(line, said)], said
    run = RunFolder.open(out / "toy" / "main")
    assert not [table for table in COMMANDS[command][1] if set(run.table(table)["operator"]) - {"+", "-", "all"}]
    assert done.err.count("Plan for toy") == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_the_plan_alone_names_the_stage_and_computes_nothing(cli, toy_folder, tmp_path, command):
    done = cli(command, toy_folder, *COMMANDS[command][0], *ONLY, "--plan-only")
    assert done.code == 0, done.err
    assert re.search(rf"^\W*{command} ", done.err, re.MULTILINE)
    assert not (tmp_path / "runs").exists()


def test_probes_are_told_layer_by_layer(cli, toy):
    done = cli("probe", toy("answers_31"), *SMALL[:4], "--probe-prompts", "961", "--probe-epochs", "3")
    assert done.code == 0, done.err
    said = " ".join(done.out.split())
    assert re.search(
        r"\+ probe at '=' by layer, held-out accuracy: 1\.00 1\.00 1\.00 \+ first heuristics layer 0: ", said
    )


def label_of(run: RunFolder, symbol: str) -> tuple[str, int]:
    """A label that the toy has, and how many neurons carry it."""
    table = run.table("heuristics").query("matched and operator == @symbol and kind == 'indirect'")
    counted = table.groupby("heuristic")[["layer", "neuron"]].apply(lambda t: len(t.drop_duplicates()))
    tried = run.table("knockouts_by_heuristic").query("operator == @symbol")["heuristic"]
    name = counted[counted.index.isin(tried)].index[0]
    return name, int(counted[name])


def results(run: RunFolder) -> dict[str, bytes]:
    """Tables and arrays, as they are on disk."""
    return {name: data for name, data in contents(run.path).items() if name != MANIFEST}


def test_one_heuristic_is_knocked_out(there, run):
    name, _ = label_of(run, "+")
    before = results(run)
    done = there("knockout", "--heuristic", name)
    assert done.code == 0, done.err
    said = " ".join(done.out.split())
    assert re.search(rf"\+ {re.escape(name)}: \d+ neurons \(layer \d: \d+.*\) zeroed at '='", said)
    assert re.search(r"inside: accuracy \d\.\d\d \[\d\.\d\d, \d\.\d\d\] on \d+ prompts answered correctly", said)
    assert re.search(r"outside: accuracy \d\.\d\d", said)
    assert "prompt answer before after" in said
    assert results(run) == before


def test_one_prompt_is_broken(there, run):
    done = there("knockout", "--prompt", "12+3=")
    assert done.code == 0, done.err
    said = " ".join(done.out.split())
    found = re.search(r"12\+3=15: (\d+) neurons \(.*?\) of (\d+) heuristics that hold of it zeroed at '='", said)
    assert found, said
    few = there("knockout", "--prompt", "12+3=", "--per-layer", "1")
    zeroed = re.search(r"12\+3=15: (\d+) neurons", few.out)
    assert zeroed
    assert int(zeroed[1]) <= min(2, int(found[1])), "one of each of the two layers that are labelled"


def test_one_heuristic_is_knocked_out_in_one_prompt(there, run):
    name, _ = label_of(run, "+")
    done = there("knockout", "--prompt", "12+3", "--heuristic", name)
    assert done.code == 0, done.err
    assert f"of heuristic '{name}' zeroed at '='" in " ".join(done.out.split())


def test_given_neurons_are_labelled_without_ranking_any(cli, toy_folder, tmp_path):
    (tmp_path / "mine.csv").write_text("layer,neuron\n2,7\n0,1\n")
    done = cli("heuristics", toy_folder, *LABELLED, *ONLY, "--neurons", "mine.csv")
    assert done.code == 0, done.err
    assert "of 2 neurons have a label at the threshold" in " ".join(done.out.split())
    run = RunFolder.open(tmp_path / "runs" / "toy" / "main")
    assert run.manifest["stages"].keys() == {"prompts", "heuristics"}
    (tmp_path / "other.csv").write_text("layer,neuron\n2,8\n")
    for options in (["--neurons", "other.csv"], []):
        cli("heuristics", toy_folder, *LABELLED, *ONLY, *options).refused("heuristics: neurons: ", "in the folder, ")


def test_another_threshold_in_the_folder_is_refused(there, run):
    before = contents(run.path)
    for command in ("heuristics", "knockout"):
        there(command, "--threshold", "0.7").refused("heuristics: threshold: 0.6 in the folder, 0.7 asked", "--out")
    there("failures", "--labels", "significant").refused("knockout: labels: 'matched' in the folder, 'significant'")
    assert contents(run.path) == before


# -- what they refuse -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--heuristic", "op1 is large"], ["'op1 is large' is not understood", "'op2 = 8 mod 10'"]),
        (["--heuristic", ""], ["'' is not understood"]),
        (["--prompt", "twelve+3="], ["'twelve+3='", "two numbers and an operator"]),
        (["--prompt", "12+"], ["'12+'", "two numbers and an operator"]),
        (["--prompt", "12%3="], ["unknown operator '%'", "+ - * /"]),
        (["--prompt", "12+31="], ["31 in '12+31='", "0..30"]),
        (["--prompt", "3-12="], ["has the result -9", "0 or more"]),
        (["--prompt", "12*3="], ["'12*3=' is of *, but the run has + -", "--operators"]),
        (["--per-layer", "3"], ["--per-layer 3", "--prompt"]),
        (["--per-layer", "0", "--prompt", "12+3="], ["--per-layer 0", "1 or more"]),
        (["--per-layer", "2", "--prompt", "12+3=", "--heuristic", "op1 = 2"], ["--per-layer 2"]),
        (["--threshold", "0"], ["--threshold 0", "(0, 1]"]),
        (["--q", "2"], ["--q 2", "(0, 1]"]),
        (["--null-draws", "3"], ["--null-draws 3", "20 or more"]),
        (["--preset", "mine"], ["'mine'", "paper or reference"]),
        (["--top-neurons", "0"], ["--top-neurons 0", "1 or more"]),
        (["--first-layer", "99"], ["--first-layer 99", "layers 0..2"]),
        (["--first-layer", "-1"], ["--first-layer -1"]),
        (["--random-neurons", "0"], ["--random-neurons 0"]),
        (["--labels", "x"], ["--labels 'x'", "matched or significant"]),
        (["--probe-lr", "0"], ["--probe-lr 0", "(0, 1)"]),
        (["--probe-prompts", "9"], ["--probe-prompts 9", "10 or more"]),
        (["--probe-batch", "0"], ["--probe-batch 0"]),
        (["--probe-epochs", "0"], ["--probe-epochs 0"]),
        (["--knockout-prompts", "0"], ["--knockout-prompts 0", "1 or more"]),
        (["--by-prompt", "0"], ["--by-prompt 0"]),
        (["--failures", "-2"], ["--failures -2"]),
    ],
    ids=" ".join,
)
def test_options_that_make_no_sense_are_refused_before_anything_is_written(cli, toy_folder, tmp_path, options, words):
    cli("knockout", toy_folder, *SMALL[:2], *ONLY, *options).refused(*words)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--heuristic", "op1 = 29"], ["no neuron of + - is labelled with 'op1 = 29'", "for example '"]),
        (["--heuristic", "op1 in 50..60"], ["no legal prompt belongs to 'op1 in 50..60'", "wider --operands"]),
        (["--prompt", "12+3=", "--heuristic", "op1 = 29"], ["no neuron is labelled with 'op1 = 29'"]),
    ],
    ids=lambda x: " ".join(x),
)
def test_a_heuristic_that_nobody_carries_is_refused_with_those_that_are(there, run, options, words):
    there("knockout", *options).refused(*words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, ["mine.csv does not exist"]),
        ("", ["mine.csv cannot be read"]),
        ("layer,index\n1,2\n", ["mine.csv lacks the column(s) neuron"]),
        ("layer,neuron\n", ["mine.csv names no neuron"]),
        ("layer,neuron\n1,2\n3,4\n", ["row 2", "L3N4", "layers are 0..2, neurons 0..95"]),
        ("layer,neuron\n1,96\n", ["row 1", "L1N96"]),
        ("layer,neuron\n-1,2\n", ["row 1"]),
        ("layer,neuron\n1,two\n", ["row 1", "two", "whole numbers"]),
        ("layer,neuron\n1,2.5\n", ["row 1", "2.5", "whole numbers"]),
        ("layer,neuron\n1,inf\n", ["row 1", "inf", "whole numbers"]),
        ("layer,neuron\n1,\n", ["row 1", "whole numbers"]),
    ],
    ids=["missing", "empty", "columns", "no rows", "layer", "neuron", "negative", "word", "fraction", "inf", "blank"],
)
def test_a_neurons_file_that_makes_no_sense(cli, toy_folder, tmp_path, text, words):
    if text is not None:
        (tmp_path / "mine.csv").write_text(text)
    cli("heuristics", toy_folder, *SMALL[:2], *ONLY, "--neurons", "mine.csv").refused(*words)
    assert not (tmp_path / "runs").exists()


def test_whole_numbers_may_be_written_with_a_point(cli, toy_folder, tmp_path):
    pd.DataFrame({"layer": [1.0, 2.0], "neuron": [5.0, 6.0]}).to_csv(tmp_path / "mine.csv")
    done = cli("heuristics", toy_folder, *SMALL[:2], *ONLY, "--neurons", "mine.csv", "--plan-only")
    assert done.code == 0, done.err


def test_what_was_not_tested_is_not_said_to_fail(tmp_path, capsys):
    run = RunFolder(tmp_path)
    row = {"operator": "+", "prediction": "in_vs_out", "holds": False}
    run.write_table("bag_of_heuristics", pd.DataFrame([
        row | {"statistic": float("nan"), "detail": "not tested: no heuristic has 10 prompts [yet]"},
        row | {"statistic": -0.2, "detail": "worse outside"},
        row | {"statistic": 0.2, "holds": True, "detail": "better"},
    ]))  # fmt: skip
    numbers = dict.fromkeys(("median_correct", "median_incorrect", "p"), float("nan"))
    counts = {"operator": "+", "n_correct": 3, "n_incorrect": 9}
    run.write_table("failure_tests", pd.DataFrame([
        counts | numbers | {"measure": "neurons", "note": "not tested: only 3 correct prompts"},
        counts | {"measure": "contribution", "median_correct": 2.0, "median_incorrect": 1.0, "p": 0.5, "note": None},
    ]))  # fmt: skip
    show_mechanism.verdicts(run)
    show_mechanism.failures(run)
    assert capsys.readouterr().out.splitlines() == [
        "+  in_vs_out: not tested: no heuristic has 10 prompts [yet]",
        "+  in_vs_out: DOES NOT HOLD. worse outside",
        "+  in_vs_out: holds. better",
        "+  neurons: not tested: only 3 correct prompts",
        "+  contribution: median 2.00 when right, 1.00 when wrong, p = 0.5, 3 and 9 prompts",
    ]
