"""Names: which models people ask for, where the shipped one lives, and what a name and a revision stand for.

The facts are in `published`. Nothing is downloaded by looking.
"""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path

from arithcirc.errors import ModelError
from arithcirc.models.published import PUBLISHED, PYTHIA_STEPS, ZooEntry
from arithcirc.models.shapes import Shape, n_params

SHIPPED = "neox-arith"
DTYPES = ("float32", "bfloat16", "float16")
_SHIPPED_SHAPE = Shape("GPTNeoXForCausalLM", 6, 4, 128, 512, 539, rotary=0.25, n_positions=32)

ZOO = (
    ZooEntry(
        SHIPPED,
        _SHIPPED_SHAPE,
        "bfloat16",
        n_params(_SHIPPED_SHAPE),
        "trained by `arithcirc train`",
        530,
        "its tokenizer",
        "shipped; trained from scratch on + - * /, operands 0..299",
    ),
    *PUBLISHED,
)


def find(name: str) -> ZooEntry | None:
    """The entry of a model by its hub id or the part after its owner; a `-deduped` Pythia has its sibling's."""
    wanted = name.lower().removesuffix("-deduped")
    return next((e for e in ZOO if wanted in (e.name.lower(), e.name.lower().split("/")[-1])), None)


def named(name: str) -> ZooEntry:
    """As `find`; raises ModelError with the nearest names."""
    if (entry := find(name)) is not None:
        return entry
    short = {e.name.lower().split("/")[-1]: e.name for e in ZOO}
    near = difflib.get_close_matches(name.lower().split("/")[-1], short, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(short[n] for n in near)}?" if near else "'arithcirc models' lists them"
    raise ModelError(f"model {name!r} is not in the table: {hint} (any model of a supported type works by its hub id)")


def pythia_steps() -> tuple[int, ...]:
    """Training steps with a published revision `step<N>` of every Pythia model: 0, 1, 2, 4, .. 512, 1000, .. 143000."""
    return PYTHIA_STEPS


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
    """A model's name for people, its revision, and what transformers is to load (a folder or a hub id).

    `fetched` is the hub revision that holds the weights where that is another one.
    """

    name: str
    revision: str
    source: str
    local: bool
    fetched: str | None = None


def locate(model: str | None, revision: str | None = None) -> Located:
    """Resolve MODEL (None: the shipped model) and a revision. Raises ModelError with what is allowed.

    A local folder is one checkpoint, which may be called `main`, or holds `step<N>` folders of which `revision` names
    one (default: the last).
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
    owner = Path(model).parts[0]
    if owner != model and Path(owner).is_dir() and _exactly(model) is None:
        raise ModelError(
            f"model folder {model} does not exist, though the folder {owner} does: give a folder with config.json "
            f"(for a hub model of that name, run the command where there is no folder {owner})"
        )
    return _hub(model, revision or "main")


def _exactly(model: str) -> ZooEntry | None:
    """The entry of a model by its full hub id."""
    return next((e for e in ZOO if e.name.lower() == model.lower().removesuffix("-deduped")), None)


def _hub(model: str, revision: str) -> Located:
    """A hub model; a step of Pythia (`step143000` or `143000`) is checked against the published ones.

    The last step is fetched from `main`, which the model cards say is the same checkpoint: the step revisions of the
    6.9B model have pickled weights only.
    """
    step = re.fullmatch(r"(?:step)?(\d{1,7})", revision)
    entry = _exactly(model)
    if entry is None or not entry.steps:
        return Located(model, revision, model, local=False)
    if step is None:
        if revision != "main" and not re.fullmatch(r"[0-9a-f]{7,40}|refs/.+", revision):
            raise ModelError(
                f"{model} has no revision {revision!r}: use main, step0 .. step{entry.steps[-1]}, or a commit's hash"
            )
        return Located(model, revision, model, local=False)
    number = int(step[1])
    if number not in entry.steps:
        below, above = ([s for s in entry.steps if s < number][-1:], [s for s in entry.steps if s > number][:1])
        near = " and ".join(f"step{s}" for s in (*below, *above))
        raise ModelError(
            f"{model} has no revision {revision!r}: the nearest published ones are {near} "
            f"(0, powers of two to 512, then every 1000 to {entry.steps[-1]})"
        )
    return Located(model, f"step{number}", model, False, "main" if number == entry.steps[-1] else None)


def check_request(model: str | None, *, revision: str | None, device: str | None, dtype: str) -> Located:
    """`locate` after checking device and dtype; imports nothing heavy. Raises ModelError for what no machine has."""
    if dtype not in DTYPES:
        raise ModelError(f"dtype {dtype!r} is not known: use one of {', '.join(DTYPES)}")
    if device is not None and not re.fullmatch(r"cpu|cuda(:(0|[1-9]\d?))?", device):
        raise ModelError(f"device {device!r} is not known: use cpu, cuda or cuda:N")
    return locate(model, revision)


def _local(folder: Path, name: str, revision: str | None) -> Located:
    steps = step_folders(folder)
    if (folder / "config.json").is_file() and (revision is None or (revision == "main" and not steps)):
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
