"""Running the command line in this process, and reading what it said."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import toys

from arithcirc.cli.main import run


@dataclass(frozen=True)
class Said:
    """Exit code and output of one command."""

    code: int
    out: str
    err: str

    @property
    def complaints(self) -> list[str]:
        """Lines of stderr that report a failure."""
        return [line for line in self.err.splitlines() if line.startswith("arithcirc: ")]

    def refused(self, *words: str, code: int = 2) -> None:
        """One line, the last, that names these words; no traceback; this exit code."""
        assert self.code == code, self.err
        assert self.complaints == self.err.splitlines()[-1:]
        assert not [w for w in words if w not in self.complaints[0]], self.complaints[0]
        assert "Traceback" not in self.out + self.err
        assert "unexpected" not in self.complaints[0]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Said]:
    """`cli("analyze", folder, ...)` in an empty working folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Said:
        capsys.readouterr()
        code = run([str(a) for a in arguments])
        return Said(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def toy(toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders of toys by name, saved once."""
    makers = {
        "answers_31": lambda: toys.answering(31),
        "silent": toys.silent,
        "broken": toys.broken,
        "gpt2": toys.gpt2,
        "sequential": lambda: toys.gpt_neox(parallel=False),
    }
    root = tmp_path_factory.mktemp("toys")

    def folder(name: str) -> Path:
        if name == "toy":
            return toy_folder
        return root / name if (root / name).exists() else toys.save(makers[name](), root / name)

    return folder
