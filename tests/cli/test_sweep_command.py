"""`arithcirc sweep`: a real sweep that is killed and goes on, its queries, and bad input in one line."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import psutil
import pytest
from sweep.synthetic_sweep import synthetic_sweep

from arithcirc.catalogue import SweepFolder
from arithcirc.cli import main, show_sweep
from arithcirc.models.zoo import shipped_folder
from arithcirc.store import write_atomic, write_json
from arithcirc.sweep.collect import collect
from arithcirc.sweep.lock import LOCK, locked
from arithcirc.sweep.plan import SweepPlan

FEW = (
    "--operators", "*", "--operands", "0..20", "--stages", "circuit", "--prompts", "2", "--random-circuits", "1",
    "--mean-prompts", "50", "--device", "cpu",
)  # fmt: skip
ENDED = {"step0": "no circuit", "step768": "failed", "step4000": "done"}
MAIN = "import sys; from arithcirc.cli.main import run; sys.exit(run(sys.argv[1:]))"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """The shipped model at three steps, and a fourth whose weights are cut short."""
    folder = tmp_path_factory.mktemp("models") / "mine"
    for step in ("step0", "step512", "step4000"):
        shutil.copytree(shipped_folder() / step, folder / step)
    shutil.copytree(folder / "step512", folder / "step768")
    weights = next((folder / "step768").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    return folder


def start(model, out, workers):
    """The command in a process of its own."""
    command = [sys.executable, "-c", MAIN, *asked(model, out, workers)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def asked(model, out, workers):
    return ["sweep", str(model), "--out", str(out), "--workers", str(workers), *FEW]


def gone(process, within=120.0):
    """Whether it ends; one that nobody asks for its end code stays as a zombie."""
    deadline = time.monotonic() + within
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def outcomes(out):
    """Status by revision."""
    return {task["revision"]: outcome["status"] for task, outcome, _ in SweepFolder(out).ended()}


def written(out):
    """When each file of a task was written."""
    return {p: p.stat().st_mtime_ns for p in out.glob("tasks/*/*/*/*") if p.is_file()}


@pytest.fixture(scope="module")
def swept(checkpoints, tmp_path_factory):
    """A sweep of three of them that nobody stops: folder, and what it said."""
    out = tmp_path_factory.mktemp("sweeps") / "swept"
    few = shutil.copytree(checkpoints, out.with_name("mine"), ignore=shutil.ignore_patterns("step512"))
    return out, to_the_end(few, out)


def to_the_end(model, out):
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main.run(asked(model, out, 1))
    return code, said.getvalue(), err.getvalue()


@pytest.mark.slow
def test_a_killed_sweep_goes_on_with_what_is_missing(checkpoints, tmp_path):
    out = tmp_path / "swept"
    process = start(checkpoints, out, 2)
    deadline = time.monotonic() + 300
    while not outcomes(out):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    workers = psutil.Process(process.pid).children()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(workers) == 2
    assert all(gone(worker) for worker in workers)
    before, status = written(out), outcomes(out)
    code, _, err = to_the_end(checkpoints, out)
    assert code == 1
    assert outcomes(out) == ENDED | {"step512": "done"}
    assert 0 < len(status) < 4
    assert status["step4000"] == "done"
    done = [p for p in before if p.with_name("outcome.json") in before]
    after = written(out)
    assert done
    assert {p: after[p] for p in done} == {p: before[p] for p in done}
    assert f"{4 - len(status)} to run of 4 ({len(status)} done before)" in err
    assert not (out / LOCK).exists()


def test_a_checkpoint_that_cannot_be_read_is_recorded_and_the_rest_goes_on(swept):
    out, (code, _, err) = swept
    assert outcomes(out) == ENDED
    assert code == 1
    last = err.splitlines()[-1]
    assert last.startswith("arithcirc: 1 of 3 tasks failed (first: mine step768 *: ")
    assert last.endswith("table tasks has the reasons; the same command tries them again")
    tasks = SweepFolder.open(out).table("tasks").set_index("revision")
    assert tasks["status"].to_dict() == outcomes(out)
    assert "step768" in tasks.loc["step768", "reason"]


def test_the_end_says_what_was_found_and_where(swept):
    out, (_, said, _) = swept
    rows = {line.split()[0]: line for line in said.splitlines() if line.startswith("step")}
    assert said.splitlines()[0] == "mine  *  on shared prompts, significant labels, reference step4000"
    assert set(rows) == set(outcomes(out))
    assert "no circuit" in rows["step0"]
    assert said.splitlines()[-1] == f"report: {out / 'report.html'}"
    assert (out / "report.html").is_file()


def test_a_model_that_answers_nothing_is_data(swept):
    found = SweepFolder.open(swept[0]).sql("select revision, accuracy from steps where prompts = 'own' order by step")
    assert found["revision"].tolist()[0] == "step0"
    assert found["accuracy"].iloc[0] == 0
    assert found["accuracy"].iloc[-1] > 0.9


# -- queries ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def tables(tmp_path):
    """A sweep's folder with one table of 100 rows and 20 columns."""
    columns = {f"c{n}": range(100) for n in range(20)}
    write_json(tmp_path / "some" / "sweep.json", {"schema": 1, "models": []})
    write_atomic(tmp_path / "some" / "tables" / "wide.parquet", lambda part: pd.DataFrame(columns).to_parquet(part))
    return tmp_path / "some"


def test_a_query(cli, tables):
    said = cli("sweep", "--out", tables, "--sql", "select c1 as step, c1 / 8 as accuracy from wide where c1 < 3")
    assert (said.code, said.err) == (0, "")
    assert [line.split() for line in said.out.splitlines()] == [
        ["step", "accuracy"], ["0", "0"], ["1", "0.125"], ["2", "0.25"], ["3", "rows"],
    ]  # fmt: skip


def test_a_long_and_wide_answer_is_cut_and_counted(cli, tables):
    said = cli("sweep", "--out", tables, "--sql", "select * from wide")
    lines = said.out.splitlines()
    assert (len(lines), len(lines[0].split())) == (42, 14)
    assert lines[-1] == "100 rows (60 more rows, 6 more columns; --csv FILE writes all)"


def test_all_rows_as_a_file(cli, tables, tmp_path):
    said = cli("sweep", "--out", tables, "--sql", "select * from wide", "--csv", tmp_path / "all.csv")
    assert said.out == f"100 rows: {tmp_path / 'all.csv'}\n"
    assert pd.read_csv(tmp_path / "all.csv").shape == (100, 20)


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    """A made-up sweep with its tables."""
    sweep = synthetic_sweep(tmp_path_factory.mktemp("synthetic"), operators="+")
    collect(sweep)
    return sweep


def test_every_table_of_a_sweep_can_be_printed(cli, synthetic):
    assert {"steps", "births", "jumps", "overlap", "verdict", "tasks"} <= set(synthetic.tables())
    for name in synthetic.tables():
        said = cli("sweep", "--out", synthetic.path, "--sql", f"select * from {name}")  # noqa: S608
        assert (said.code, said.err) == (0, ""), name
        assert said.out.splitlines()[-1].startswith(f"{len(synthetic.table(name))} rows")
        assert "<NA>" not in said.out
        assert "nan" not in said.out.split()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("4973000.0::double", "4973000"), ("4973000.4::double", "4973000"), ("4973000", "4973000"),
        ("0.123456::double", "0.1235"), ("1.5e-9::double", "1.5e-09"), ("1e20::double", "1e+20"), ("1.0::float", "1"),
        ("0.1::float", "0.1"), ("null::integer", ""), ("'nan'::double", ""), ("'[/b] x'", "[/b] x"),
        ("[1, 2]", "[1 2]"), ("true", "True"),
    ],
)  # fmt: skip
def test_how_a_value_is_printed(cli, tables, value, said):
    printed = cli("sweep", "--out", tables, "--sql", f"select {value} as v, 7 as w").out.splitlines()
    assert printed[1].strip().removesuffix("7").strip() == said


def test_the_end_shows_what_the_verdict_is_about(capsys, synthetic):
    show_sweep.results(synthetic)
    first, heads, *lines = capsys.readouterr().out.splitlines()
    assert first == "toy-arith  +  on shared prompts, significant labels, reference step2000"
    assert heads.split("  ")[0] == "revision"
    assert max(len(heads), *map(len, lines[:7])) <= 100
    rows = {line.split()[0]: line.split() for line in lines[:7]}
    steps = synthetic.sql("select * from steps where prompts = 'shared'").set_index("revision")
    pairs = synthetic.sql(
        "select revision, share from overlap where prompts = 'shared' and what = 'pairs' and labels = 'significant'"
    ).set_index("revision")["share"]
    at = steps.loc["step512"]
    assert rows["step512"] == [
        "step512", f"{at['accuracy']:.4g}", str(at["n_prompts"]), str(at["heads"]), f"{at['faithfulness']:.4g}",
        str(at["important"]), str(at["labelled_significant"]), f"{pairs['step512']:.4g}", "done",
    ]  # fmt: skip
    assert rows["step0"][-2:] == ["no", "circuit"]


def test_matched_labels_are_shown_where_the_reference_has_few_significant_pairs(capsys, synthetic, monkeypatch):
    monkeypatch.setattr("arithcirc.sweep.verdict.PAIRS", 10**6)
    show_sweep.results(synthetic)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "toy-arith  +  on shared prompts, matched labels, reference step2000"
    steps = synthetic.sql("select * from steps where prompts = 'shared' and revision = 'step512'")
    assert [line.split()[6] for line in said if line.startswith("step512")] == [str(steps["labelled_matched"][0])]


def test_a_plan_in_words(capsys):
    known = SweepPlan(1, 1, 1, 1, "+", 1, 5.0, 2.0, 3e6, 10**9, 10**6)
    show_sweep.plan(known)
    said = capsys.readouterr().err
    assert "1 model, 1 checkpoint, operators +" in said
    assert "1.0 GB" in said
    assert "about 3 MB" in said
    show_sweep.plan(replace(known, checkpoints=2, traffic_bytes=None, forwards=None))
    said = capsys.readouterr().err
    assert "at least 3 MB" in said
    assert "2 checkpoints" in said
    assert [line.split() for line in said.splitlines() if "download" in line] == [["to", "download", "not", "known"]]


def test_a_query_needs_no_torch(tables):
    code = f"assert run(['sweep', '--out', {str(tables)!r}, '--sql', 'select 1']) == 0; import sys; "
    code = f"from arithcirc.cli.main import run; {code}assert not {{'torch', 'transformers'}} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_help_and_refusals_need_no_torch():
    code = "from arithcirc.cli.main import run; run(['sweep', '--revisions', 'step7']); run(['sweep', '--help']); "
    code += "import sys; assert not {'torch', 'transformers'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("query", "words"), [("select nothing from wide", "failed"), ("select * from none", "tables are wide")]
)
def test_a_query_that_cannot_be(cli, tables, query, words):
    cli("sweep", "--out", tables, "--sql", query).refused(words, query)


def test_a_query_of_a_folder_that_is_no_sweep(cli, tmp_path):
    cli("sweep", "--out", tmp_path, "--sql", "select 1").refused("is not a sweep's folder")


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--revisions", "step500"), ["no revision 'step500'", "nearest are step384 and step512"]),
        (("--revisions", "step9..step1"), ["runs backwards"]),
        (("EleutherAI/pythia-70m",), ["154 published checkpoints", "pythia/10"]),
        (("EleutherAI/pythia-70m", "--revisions", "step1500"), ["nearest", "step1000 and step2000"]),
        (("./nowhere",), ["does not exist"]),
        (("--reference", "step5"), ["no revision 'step5' in this sweep"]),
        (("--stages", "all"), ["--stages 'all'", "circuit, neurons, heuristics"]),
        (("--operators", "%"), ["%"]),
        (("--operands", "5..1"), ["empty or negative"]),
        (("--workers", "0"), ["--workers 0 is too few"]),
        (("--retries", "-1"), ["--retries -1 is negative"]),
        (("--executor", "cloud"), ["--executor 'cloud'", "local, ray, slurm"]),
        (("--address", "here:1"), ["add --executor ray"]),
        (("--partition", "gpu"), ["--partition gpu", "add --executor slurm"]),
        (("--time-limit", "240"), ["--time-limit 240", "add --executor slurm"]),
        (("--memory-gb", "8"), ["--memory-gb 8", "add --executor slurm"]),
        (("--gpus-per-task", "1"), ["--gpus-per-task 1", "add --executor ray or slurm"]),
        (("--cpus-per-task", "2"), ["--cpus-per-task 2", "add --executor ray or slurm"]),
        (("--threads", "0"), ["--threads 0 is too few"]),
        (("neox-arith@step500", "--revisions", "step0"), ["no revision 'step500'"]),
        (("gpt2@",), ["write MODEL@REVISIONS"]),
        (("Qwen/Qwen2.5-7B",), ["splits numbers into digits"]),
        (("--device", "tpu"), ["use cpu, cuda or cuda:N"]),
        (("--dtype", "float8"), ["use one of float32"]),
        (("--batch-size", "0"), ["--batch-size 0"]),
        (("--csv", "rows.csv"), ["add --sql"]),
        (("--pairs", "file.csv"), ["--pairs"]),
        (("--revision", "step512"), ["--revision"]),
    ],
)
def test_bad_requests(cli, tmp_path, arguments, words):
    cli("sweep", *arguments).refused(*words)
    assert not (tmp_path / "runs" / "sweep" / "sweep.json").exists()


@pytest.mark.parametrize(("executor", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_missing_package_names_its_extra(cli, monkeypatch, executor, package):
    monkeypatch.setitem(sys.modules, package, None)
    said = cli("sweep", "--executor", executor)
    said.refused(f"--executor {executor} needs the package {package}: pip install 'arithcirc[cluster]'")
    assert not Path("runs/sweep/sweep.json").exists()


def test_a_folder_in_use_by_another_sweep(cli, tmp_path):
    with locked(tmp_path / "busy"):
        said = cli("sweep", "--out", tmp_path / "busy")
    said.refused("in use by another sweep", f"process {os.getpid()} on {os.uname().nodename}")


def test_other_settings_in_the_same_folder(cli, swept):
    said = cli("sweep", "--out", swept[0], *FEW, "--seed", "3")
    said.refused("other settings (prompts: seed: 0 in the folder, 3 asked)", "choose another --out")


def test_a_disk_nearly_full(cli, tmp_path, monkeypatch):
    monkeypatch.setattr("arithcirc.sweep.folder.free_disk", lambda _: 1_000_000)
    monkeypatch.setattr("arithcirc.sweep.local.LocalExecutor.plan", lambda *_: json.loads(PLANNED))
    cli("sweep", "--revisions", "step0,step4000").refused("1 MB are free and 200 MB must stay free", code=1)
    assert not list(Path("runs/sweep").glob("tasks/*"))


PLANNED = '{"stages": {"own/prompts": {"forwards": 1, "seconds": 1}}, "memory_bytes": 1, "disk_bytes": 1000}'
