"""Bad input: one clear line, exit code 2 (1 where the machine is at fault), nothing lost."""

import json
import os
import shutil

import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from toys import SMALL, WHOLE, contents
from transformers import PreTrainedTokenizerFast

from arithcirc.store import MANIFEST, RunFolder

FEW = ("--operators", "+", *SMALL)
UNKNOWN, BOS = "?", "^"
PAIRS = "operator,prompt,answer,counterfactual,counterfactual_answer\n"


@pytest.fixture
def copy(toy_folder, tmp_path):
    """A copy of the toy to damage."""
    return shutil.copytree(toy_folder, tmp_path / "copy")


# -- models -----------------------------------------------------------------------------------------------------------


def test_an_unknown_model(cli):
    cli("analyze", "nobody/nothing").refused("nobody/nothing", "check the name")


def test_a_missing_folder(cli, tmp_path):
    cli("analyze", tmp_path / "none").refused("does not exist")


@pytest.mark.parametrize(
    ("missing", "words"),
    [("config.json", "no config.json"), ("model.safetensors", "no *.safetensors"), ("tokenizer.json", "no tokenizer")],
)
def test_a_folder_that_lacks_a_file(cli, copy, missing, words):
    (copy / missing).unlink()
    cli("analyze", copy).refused(str(copy), words)


def test_pickled_weights(cli, copy):
    (copy / "model.safetensors").unlink()
    torch.save({}, copy / "pytorch_model.bin")
    cli("analyze", copy).refused("pytorch_model.bin", "refused", "save_pretrained")


def test_a_tokenizer_that_splits_operands(cli, copy):
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate("?^+-*/=0123456789")}, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    PreTrainedTokenizerFast(tokenizer_object=core, bos_token=BOS, unk_token=UNKNOWN).save_pretrained(copy)
    cli("analyze", copy, *SMALL).refused("copy: its tokenizer splits numbers into digits", "use a model that writes")


def test_nan_weights(cli, toy, tmp_path):
    cli("analyze", toy("broken"), *SMALL).refused("broken gives NaN or infinite logits")


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--revision", "step5", "no step folders"),
        ("--device", "tpu", "use cpu, cuda or cuda:N"),
        ("--dtype", "float8", "use one of float32"),
    ],
)
def test_options_of_the_model(cli, toy_folder, option, value, words):
    cli("analyze", toy_folder, option, value).refused(value, words)


# -- prompts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--operands", "0..99"], ["0..99 exceed 60", "--operands 0..60"]),
        (["--operands", "30..0"], ["30..0", "LOW..HIGH"]),
        (["--operands", "many"], ["many", "LOW..HIGH"]),
        (["--operators", "+%"], ["unknown operator '%'", "+ - * /"]),
        (["--operators", ""], ["no operator given"]),
        (["--prompts", "0"], ["--prompts 0"]),
        (["--seed", "-1"], ["--seed -1"]),
        (["--counterfactual-seeds", "0"], ["--counterfactual-seeds 0"]),
        (["--template", "{op1}+{op2}="], ["template", "{operator}"]),
        (["--prefix", "one plus one is "], ["no tokens", "prefix"]),
        (["--batch-size", "0"], ["--batch-size 0"]),
        (["--batch-size", "many"], ["--batch-size", "many"]),
        (["--heads", "-1"], ["--heads -1"]),
        (["--heads", "few"], ["--heads", "few"]),
        (["--target", "2"], ["--target 2"]),
        (["--mlps", "0-99"], ["--mlps", "layers 0..2"]),
        (["--mlps", "some"], ["--mlps 'some'"]),
        (["--rank-by", "size"], ["--rank-by 'size'", "logit_diff"]),
        (["--random-circuits", "0"], ["--random-circuits 0"]),
        (["--mean-prompts", "0"], ["--mean-prompts 0"]),
        (["--no-such-option"], ["--no-such-option"]),
        (["one", "too", "many"], ["too"]),
        (["--pairs", "none.csv"], ["none.csv", "does not exist"]),
    ],
    ids=" ".join,
)
def test_options_that_make_no_sense_are_refused_before_anything_is_written(cli, toy_folder, tmp_path, options, words):
    given = [*SMALL[:2], *options] if "--operands" not in options else options
    cli("analyze", toy_folder, *given).refused(*words)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("command", ["analize", "localise", "--frobnicate"])
def test_an_unknown_command(cli, command):
    cli(command).refused(command, "arithcirc --help")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("+,1+1=,2,3*4,12\n", ["row 1", "3*4"]),
        ("+,1+1=,two,3*4=,12\n", ["row 1", "two"]),
        ("%,1+1=,2,3*4=,12\n", ["row 1", "unknown operator '%'"]),
        ("+,1+99=,2,3*4=,12\n", ["operand 99", "60"]),
        ("+,1+1=,99,3*4=,12\n", ["answer 99", "0..60"]),
        ("", ["no rows"]),
    ],
)
def test_a_pairs_file_that_makes_no_sense(cli, toy_folder, tmp_path, row, words):
    (tmp_path / "pairs.csv").write_text(PAIRS + row)
    cli("localize", toy_folder, "--pairs", "pairs.csv", *SMALL[:2]).refused(*words)
    assert not (tmp_path / "runs").exists()


# -- answers ----------------------------------------------------------------------------------------------------------


def test_operators_without_right_answers_or_legal_prompts_are_skipped_and_said(cli, toy, tmp_path):
    done = cli("analyze", toy("answers_31"), "--operands", "10..40", *WHOLE[2:])
    assert done.code == 0, done.err
    assert "-  accuracy 0.000" in done.out
    assert done.out.count("operator skipped") == 3
    assert "no prompt with operands 10..40 has a result in 0..60: operator skipped" in done.out
    run = RunFolder.open(tmp_path / "runs" / "answers_31" / "main")
    tables = run.tables()
    assert {"effects", "failures", "knockouts_by_prompt", "bag_of_heuristics"} < set(tables)
    assert not [t for t in tables if set(run.table(t)["operator"]) - {"+", "all"} and t != "accuracy"]
    assert run.table("accuracy").set_index("operator")["skipped"].notna().tolist() == [False, True, True, True]


def test_fewer_right_answers_than_asked_are_used_and_said(cli, toy_folder, tmp_path):
    done = cli("prompts", toy_folder, "--operands", "0..30", "--prompts", "50")
    assert done.code == 0, done.err
    assert done.out.count("100 were asked to discover and evaluate: fewer are used") == 4
    table = RunFolder.open(tmp_path / "runs" / "toy" / "main").table("prompts")
    assert set(table["set"]) == {"discover", "evaluate"}


def test_a_model_that_answers_nothing_rightly(cli, toy):
    cli("analyze", toy("silent"), *SMALL).refused(
        "leaves no prompt to analyse", "/: 0 of", "try easier --operands", "or --pairs FILE"
    )


# -- run folders ------------------------------------------------------------------------------------------------------


@pytest.fixture
def finished(cli, toy_folder, tmp_path):
    """The folder of a run whose prompts were chosen."""
    assert cli("prompts", toy_folder, *FEW[:6]).code == 0
    return tmp_path / "runs" / "toy" / "main"


def test_another_configuration_in_the_folder(cli, toy_folder, finished):
    before = contents(finished)
    cli("analyze", toy_folder, *FEW, "--seed", "9").refused("seed: 0 in the folder, 9 asked", "choose another --out")
    assert contents(finished) == before


def test_another_model_of_the_same_name(cli, finished, toy, tmp_path):
    other = shutil.copytree(toy("sequential"), tmp_path / "other" / "toy")
    cli("analyze", other, *FEW).refused("weights_sha256", "choose another --out")


def test_a_half_written_manifest(cli, toy_folder, finished):
    text = (finished / MANIFEST).read_text()
    (finished / MANIFEST).write_text(text[: len(text) // 2])
    before = contents(finished)
    cli("analyze", toy_folder, *FEW).refused("manifest.json is damaged", "move the folder away")
    assert contents(finished) == before


def test_somebody_elses_tables(cli, toy_folder, finished):
    (finished / MANIFEST).unlink()
    cli("analyze", toy_folder, *FEW).refused("holds tables but no manifest.json")


def test_a_damaged_table_is_computed_again_and_said(cli, toy_folder, finished):
    whole = (finished / "prompts.parquet").read_bytes()
    (finished / "prompts.parquet").write_bytes(whole[: len(whole) // 2])
    done = cli("prompts", toy_folder, *FEW[:6])
    assert done.code == 0
    assert "missing or changed" in done.err
    assert (finished / "prompts.parquet").read_bytes() == whole


def test_a_file_where_the_folder_should_be(cli, toy_folder, tmp_path):
    (tmp_path / "runs").touch()
    cli("prompts", toy_folder, *FEW[:6]).refused("cannot write", "choose another --out", code=1)


def test_a_folder_that_cannot_be_written(cli, toy_folder, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    cli("prompts", toy_folder, *FEW[:6]).refused("the folder is not writable", "choose another --out", code=1)


SLOW_FILES = ("means.safetensors", "faithfulness.parquet", "report.html")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
@pytest.mark.parametrize(
    "file",
    ["effects.parquet", *(pytest.param(f, marks=pytest.mark.slow) for f in SLOW_FILES)],
)
def test_a_full_disk_loses_nothing(cli, toy_folder, finished, file):
    (finished / f"{file}.part").symlink_to("/dev/full")
    if file == "report.html":
        cli("report", finished).refused(f"{file}: the disk is full", "finished stages are kept", code=1)
    else:
        cli("faithfulness", toy_folder, *FEW).refused(f"{file}: the disk is full", "finished stages are kept", code=1)
    kept = set(json.loads((finished / MANIFEST).read_text())["stages"])
    assert "prompts" in kept
    done = cli("faithfulness", toy_folder, *FEW)
    assert done.code == 0
    assert done.err.count("finished before, reused") == len(kept)


def test_a_report_of_what_is_no_run(cli, tmp_path):
    cli("report", tmp_path).refused("neither a run's folder", "arithcirc sweep")
