"""Offline, one thread, the toy model that most tests share, and a browser for those that look at pages."""

import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.pop("ARITHCIRC_DEBUG", None)

import pytest
import type_checks

type_checks.install()
# Compiled modules are kept, whatever the environment asks for: workers and subprocesses would each compile the package.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a background job of a shell; children would ignore it too
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
CHROMIUM = Path("/usr/bin/chromium")
PATIENCE = 120_000
ARGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


def pytest_unconfigure() -> None:
    """What is frozen is never freed, and libraries complain."""
    gc.unfreeze()


@pytest.fixture(scope="module", autouse=True)
def _frozen() -> None:
    """What is there stays, so that a collection, which every stage asks for, looks at what tests make only."""
    if not gc.get_freeze_count():
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of given material beside the repository; tests that need it are skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not here")
    return SHARED


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random GPT-NeoX in Hugging Face format."""
    import toys

    return toys.save(toys.gpt_neox(), tmp_path_factory.mktemp("models") / "toy")


@pytest.fixture(scope="session")
def planted_sweep(tmp_path_factory: pytest.TempPathFactory):
    """A synthetic sweep with its tables, to read from only."""
    from sweep.synthetic_sweep import synthetic_sweep

    from arithcirc.sweep.collect import collect

    made = synthetic_sweep(tmp_path_factory.mktemp("sweeps") / "planted")
    collect(made)
    return made


@pytest.fixture(scope="session")
def toy_model(toy_folder: Path):
    """The toy, loaded."""
    from arithcirc.models.load import load

    return load(str(toy_folder), device="cpu")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's chromium; tests that need it are skipped where it is absent."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra 'dev')")
    if not CHROMIUM.exists():
        pytest.skip("no browser: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=str(CHROMIUM), args=ARGS)
        _patient(chromium)
        yield chromium
        chromium.close()


def _patient(chromium: Any) -> None:
    """Pages wait for minutes: a busy machine is slow, and what never comes fails all the same."""

    def waiting(make: Any) -> Any:
        def made(**options: Any) -> Any:
            found = make(**options)
            found.set_default_timeout(PATIENCE)
            return found

        return made

    chromium.new_context, chromium.new_page = waiting(chromium.new_context), waiting(chromium.new_page)
