"""`arithcirc models`, and the options of loading as commands take them."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import toys
from rich.console import Console
from rich.table import Table
from toys import COMMIT, SMALL, cached

from arithcirc.cli.models import COLUMNS, markdown_table, row
from arithcirc.cli.show import wide
from arithcirc.errors import ModelError
from arithcirc.models.zoo import ZOO
from arithcirc.store import RunFolder

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "hf_aVerySecretToken123"  # noqa: S105


def test_the_table_names_every_model_and_fits_a_terminal(cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    done = cli("models")
    assert done.code == 0
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= 120
    shown = {line.split()[0]: line.split() for line in lines[1 : len(ZOO) + 1]}
    assert list(shown) == [entry.name for entry in ZOO]
    assert shown["EleutherAI/pythia-6.9b"][1:] == [
        *("GPTNeoX", "6.9B", "32", "32", "4096", "16384", "float16", "13.7", "GB", "0..530", "154", "steps")
    ]
    assert shown["meta-llama/Meta-Llama-3-8B"][4:6] == ["32", "(8)"]
    assert "digits" in shown["Qwen/Qwen3-8B"]
    assert "0..~520" in shown["EleutherAI/gpt-j-6b"]
    assert re.search(r"neox-arith: step0, .*step4000", done.out)


@pytest.mark.parametrize("columns", ["40", "80", None])
def test_no_number_is_cut_on_a_narrow_terminal_or_in_a_pipe(columns):
    """In a process of its own, whose output is a pipe."""
    environment = {k: v for k, v in os.environ.items() if k != "COLUMNS"} | ({"COLUMNS": columns} if columns else {})
    command = [sys.executable, "-c", "from arithcirc.cli.main import main; main()", "models"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    lines = done.stdout.splitlines()
    assert lines[0].split() == list(COLUMNS)
    assert [line.split() for line in lines[1 : len(ZOO) + 1]] == [" ".join(row(entry)).split() for entry in ZOO]


def test_a_table_is_as_wide_as_its_cells_on_a_narrow_terminal():
    table = Table("name", "number", title="a title longer than forty characters of the terminal", box=None)
    table.add_row("x" * 50, "1234567890")
    terminal = Console(width=40, force_terminal=True, soft_wrap=True, file=io.StringIO(), color_system=None)
    wide(table, terminal)
    lines = terminal.file.getvalue().splitlines()
    assert lines[-1].split() == ["x" * 50, "1234567890"]
    assert len(lines) == 3


def test_one_model_comes_with_its_memory_and_the_command_to_run(cli):
    said = cli("models", "pythia-6.9b").out
    assert "float32 27.4 GB, bfloat16 13.7 GB, float16 13.7 GB" in said
    assert "accuracy + 0.30, - 0.04, * 0.27, / 0.75" in said
    assert "154: step0, step1, step2" in said
    assert "arithcirc analyze EleutherAI/pythia-6.9b --revision step143000 --dtype bfloat16 --device cuda\n" in said
    assert "analyze EleutherAI/pythia-6.9b-deduped --rev" in cli("models", "EleutherAI/pythia-6.9b-deduped").out
    assert "--device-map auto" in cli("models", "meta-llama/Meta-Llama-3-70B").out
    assert "accept the licence" in cli("models", "Meta-Llama-3-8B").out
    assert "command     none: numbers are split" in cli("models", "Mistral-7B-v0.1").out
    assert "command     arithcirc analyze\n" in cli("models", "neox-arith").out


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("EleutherAI/pythia-6.9b", {"revision": "step143000", "dtype": "bfloat16", "device": "cuda"}),
        ("EleutherAI/pythia-70m", {"revision": "step143000", "dtype": "float32", "device": "cuda"}),
        ("meta-llama/Meta-Llama-3-70B", {"revision": None, "device_map": "auto", "device": None}),
    ],
)
def test_the_command_shown_asks_for_that_model(cli, monkeypatch, name, asked):
    loads = []

    def load(model, **options):
        loads.append((model, options))
        raise ModelError("enough")

    monkeypatch.setattr("arithcirc.models.load.load", load)
    shown = next(line for line in cli("models", name).out.splitlines() if line.startswith("  command"))
    cli(*shown.split()[2:]).refused("enough")
    assert loads[0][0] == name
    assert asked.items() <= loads[0][1].items()


def test_every_fact_is_there_as_json(cli):
    facts = json.loads(cli("models", "--json").out)
    assert [f["name"] for f in facts] == [e.name for e in ZOO]
    neox = next(f for f in facts if f["name"] == "EleutherAI/pythia-70m")
    assert (neox["n_params"], neox["weights_bytes"]["bfloat16"], len(neox["steps"])) == (70_426_624, 140_853_248, 154)
    assert neox["shape"]["rotary"] == 0.25


def test_the_markdown_table_has_a_row_per_model(cli):
    lines = cli("models", "--markdown").out.splitlines()
    assert lines == markdown_table(ZOO)
    assert len(lines) == len(ZOO) + 2
    assert {line.count(" | ") for line in lines} == {len(COLUMNS) - 1}


def test_the_table_of_the_readme_is_the_one_printed():
    readme = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    lines = markdown_table(ZOO)
    start = readme.index(lines[0])
    assert readme[start : start + len(lines)] == lines


def test_an_unknown_model_is_refused_with_near_names(cli):
    cli("models", "EleutherAI/pythia-6b").refused("did you mean", "EleutherAI/pythia-")
    cli("models", "zzz").refused("'arithcirc models' lists them")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--device-map", "auto", "--device", "cpu"], ["--device cpu", "exclude each other"]),
        (["--device-map", "balanced"], ["'balanced'", "use auto"]),
        (["--device-map", "auto"], ["no usable GPU here"]),
        (["--revision", "step1500"], ["no step folders"]),
    ],
)
def test_options_of_loading_that_make_no_sense(cli, toy_folder, options, words, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    cli("analyze", toy_folder, *options).refused(*words)


def test_an_unknown_step_of_pythia_is_refused_before_any_download(cli):
    cli("analyze", "EleutherAI/pythia-6.9b", "--revision", "step1500").refused("step1000 and step2000")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["EleutherAI/pythia-70m", "--revision", "banana"], ["no revision 'banana'", "main, step0 .. step143000"]),
        (["models/nosuch"], ["model folder models/nosuch does not exist", "the folder models does"]),
        (["--dtype", "float8"], ["'float8'", "use one of float32, bfloat16, float16"]),
        (["--device", "tpu"], ["'tpu'", "use cpu, cuda or cuda:N"]),
        (["--device", "cuda:-1"], ["'cuda:-1'", "use cpu, cuda or cuda:N"]),
    ],
)
@pytest.mark.parametrize("command", ["analyze", "check"])
def test_what_cannot_be_is_refused_before_torch_is_asked(cli, tmp_path, monkeypatch, command, arguments, words):
    (tmp_path / "models").mkdir()
    monkeypatch.setitem(sys.modules, "arithcirc.models.load", None)  # importing it now fails
    cli(command, *arguments).refused(*words)


def test_a_model_that_is_not_cached_is_named_offline(cli, tmp_path):
    words = ("lacks the configuration of EleutherAI/pythia-70m (step512)", "--offline", "the network on")
    done = cli("prompts", "EleutherAI/pythia-70m", "--revision", "512", "--offline", "--cache-dir", tmp_path / "hub")
    done.refused(*words)


def test_a_model_that_does_not_fit_is_refused_with_exit_code_1(cli, toy_folder, monkeypatch):
    monkeypatch.setattr("arithcirc.models.memory.free_bytes", lambda device: 300_000)
    cli("prompts", toy_folder).refused("toy does not fit", "cpu has 0.3 MB free", "--dtype bfloat16", code=1)


def test_the_manifest_says_how_the_model_was_loaded_but_no_token(cli, toy_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    cached(toy_folder, tmp_path / "hub", "owner/toy")
    asked = ("owner/toy", "--cache-dir", tmp_path / "hub", "--offline", "--dtype", "bfloat16", "--device", "cpu")
    done = cli("prompts", *asked, "--operators", "+", *SMALL[:4])
    assert done.code == 0, done.err
    run = RunFolder.open(tmp_path / "runs" / "owner--toy" / "main")
    loading = json.loads((run.path / "manifest.json").read_text())["facts"]["loading"]
    assert (loading["offline"], loading["dtype"], loading["device"]) == ("True", "bfloat16", "cpu")
    assert (loading["cache_dir"], loading["device_map"]) == (str(tmp_path / "hub"), None)
    assert f"commit:{COMMIT}" in (run.path / "manifest.json").read_text()
    assert not [name for name, content in toys.contents(run.path).items() if TOKEN.encode() in content]
    assert TOKEN not in done.out + done.err
