"""Names: which models people ask for, and where the shipped one lives.

Facts about the paper's models are from Nikankin et al. 2024 (arXiv 2410.21272) and the models' public cards; the
single-token limit is always read off the tokenizer at run time, the number here only helps to choose. Nothing is
downloaded by looking.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from arithcirc.errors import ModelError

SHIPPED = "neox-arith"


@dataclass(frozen=True)
class ZooEntry:
    """A model of the paper or shipped with the package; sizes are counts."""

    name: str
    architecture: str
    n_layers: int
    n_heads: int
    d_model: int
    d_mlp: int
    number_limit: int
    note: str


ZOO = (
    ZooEntry(SHIPPED, "GPTNeoX", 6, 4, 128, 512, 530, "shipped; trained from scratch on + - * /, operands 0..299"),
    ZooEntry("EleutherAI/pythia-70m", "GPTNeoX", 6, 8, 512, 2048, 530, "revisions step0 .. step143000"),
    ZooEntry("EleutherAI/pythia-160m", "GPTNeoX", 12, 12, 768, 3072, 530, "revisions step0 .. step143000"),
    ZooEntry("EleutherAI/pythia-410m", "GPTNeoX", 24, 16, 1024, 4096, 530, "revisions step0 .. step143000"),
    ZooEntry("EleutherAI/pythia-1.4b", "GPTNeoX", 24, 16, 2048, 8192, 530, "revisions step0 .. step143000"),
    ZooEntry(
        "EleutherAI/pythia-6.9b", "GPTNeoX", 32, 32, 4096, 16384, 530, "the paper's; revisions step0 .. step143000"
    ),
    ZooEntry("openai-community/gpt2", "GPT2", 12, 12, 768, 3072, 520, "arithmetic is weak; useful for checks"),
)


def shipped_folder() -> Path:
    """Folder of the shipped model: inside the installed package, else in the checkout's data/."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "shipped" / SHIPPED, package.parent / "data" / "models" / SHIPPED):
        if folder.is_dir():
            return folder
    raise ModelError(
        f"the shipped model {SHIPPED} is missing from this installation: reinstall arithcirc, or name a MODEL"
    )


def step_folders(folder: Path) -> dict[str, Path]:
    """Training checkpoints in a folder, `{"step512": path, ...}` in step order."""
    steps = {p.name: p for p in folder.iterdir() if p.is_dir() and re.fullmatch(r"step\d+", p.name)}
    return dict(sorted(steps.items(), key=lambda item: int(item[0][4:])))


@dataclass(frozen=True)
class Located:
    """A model's name for people, its revision, and what transformers is to load (a folder or a hub id)."""

    name: str
    revision: str
    source: str
    local: bool


def locate(model: str | None, revision: str | None = None) -> Located:
    """Resolve MODEL (None: the shipped model) and a revision. Raises ModelError with what is allowed.

    A local folder is one checkpoint, or holds `step<N>` folders of which `revision` names one (default: the last).
    """
    if model is None or model == SHIPPED:
        return _local(shipped_folder(), SHIPPED, revision)
    path = Path(model).expanduser()
    looks_local = model.startswith((".", "/", "~")) or model.count("/") > 1 or "\\" in model
    if model.strip() and path.is_dir():
        return _local(path, path.resolve().name, revision)
    if path.is_file():
        raise ModelError(f"{model} is a file: give the folder that holds config.json and the weights")
    if looks_local:
        raise ModelError(f"model folder {model} does not exist: give a folder with config.json, or a Hugging Face id")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", model):
        raise ModelError(f"{model!r} is neither a folder nor a Hugging Face id (owner/name): see 'arithcirc models'")
    return Located(model, revision or "main", model, local=False)


def _local(folder: Path, name: str, revision: str | None) -> Located:
    steps = step_folders(folder)
    if (folder / "config.json").is_file() and revision is None:
        parent_is_model = re.fullmatch(r"step\d+", folder.resolve().name) is not None
        label = folder.resolve().parent.name if parent_is_model else name
        return Located(label, folder.resolve().name if parent_is_model else "main", str(folder), local=True)
    if revision is not None and not steps:
        raise ModelError(f"{folder} has no step folders, so --revision {revision} means nothing there: leave it out")
    if not steps:
        raise ModelError(
            f"{folder} has no config.json and no step<N> folders: it is not a model in Hugging Face format"
        )
    chosen = revision or list(steps)[-1]
    if chosen not in steps:
        raise ModelError(f"{folder} has no revision {chosen!r}: it has {', '.join(steps)}")
    return Located(name, chosen, str(steps[chosen]), local=True)
