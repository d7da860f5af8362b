"""`arithcirc models`: which models are known, and what one needs, without loading or downloading any."""

import json as json_text
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table

from arithcirc.cli import show

if TYPE_CHECKING:
    from arithcirc.models.published import ZooEntry

COLUMNS = (
    "model",
    "type",
    "params",
    "layers",
    "heads",
    "d_model",
    "d_mlp",
    "weights",
    "memory",
    "numbers",
    "revisions",
)
_LARGEST_GPU = 80e9
"""Bytes from which the command shown spreads a model over all GPUs."""


def models(
    name: Annotated[str | None, Parameter(help="Show one model: a hub id, or its part after the owner.")] = None,
    *,
    markdown: Annotated[bool, Parameter(negative="", help="Print the table in Markdown.")] = False,
    json: Annotated[bool, Parameter(negative="", help="Print every fact as JSON.")] = False,
) -> None:
    """List the known models: the shipped one, the paper's, their relatives. Nothing is downloaded.

    Memory is that of the published weights in their own precision. Any other model of a supported type works by its
    Hugging Face id or folder.
    """
    from arithcirc.models.zoo import ZOO, named

    chosen = ZOO if name is None else (named(name),)
    if json:
        show.out.print(json_text.dumps([_facts(entry) for entry in chosen], indent=1), markup=False)
    elif markdown:
        show.out.print("\n".join(markdown_table(chosen)), markup=False)
    elif name is not None:
        _details(name, chosen[0])
    else:
        _table()


def row(entry: "ZooEntry") -> tuple[str, ...]:
    """A model's cells, in the order of COLUMNS."""
    from arithcirc.models.memory import weights_bytes

    shape = entry.shape
    kv = f" ({shape.n_kv_heads})" if shape.n_kv_heads != shape.n_heads else ""
    about = "~" if entry.limit_source.startswith("about") else ""
    numbers = "digits" if entry.number_limit is None else f"0..{about}{entry.number_limit}"
    revisions = f"{len(entry.steps)} steps" if entry.steps else "gated" if entry.gated else ""
    return (
        entry.name,
        shape.architecture.removesuffix("ForCausalLM").removesuffix("LMHeadModel"),
        _short(entry.n_params),
        str(shape.n_layers),
        f"{shape.n_heads}{kv}",
        str(shape.d_model),
        str(shape.d_mlp),
        entry.dtype,
        show.memory(weights_bytes(entry.n_params, entry.dtype)),
        numbers,
        revisions,
    )


def _short(n_params: int) -> str:
    """`14.1M`, `6.9B`."""
    return f"{n_params / 1e9:.1f}B" if n_params >= 1e9 else f"{n_params / 1e6:.1f}M"


def markdown_table(entries: "tuple[ZooEntry, ...]") -> list[str]:
    """The table as Markdown lines."""
    rule = [":--" if column in ("model", "type", "weights", "revisions") else "--:" for column in COLUMNS]
    return [f"| {' | '.join(cells)} |" for cells in (COLUMNS, rule, *map(row, entries))]


def _table() -> None:
    """All models, then what the table leaves out."""
    from arithcirc.models.zoo import SHIPPED, ZOO, shipped_folder, step_folders

    table = Table(box=None, pad_edge=False)
    for column in COLUMNS:
        left = column in ("model", "type", "weights", "revisions")
        table.add_column(column, justify="left" if left else "right", no_wrap=True, overflow="fold")
    for entry in ZOO:
        table.add_row(*row(entry))
    show.wide(table)
    show.out.print("")
    for line in NOTES:
        show.out.print(line, markup=False)
    show.out.print(f"{SHIPPED}: {', '.join(step_folders(shipped_folder())) or 'one'}")


NOTES = (
    "memory: of the published weights. heads (key-value heads). numbers: known single tokens; digits: split, refused.",
    "Pythia from 70m up also as <model>-deduped; its steps are 0, 1, 2, 4, .. 512, 1000, 2000, .. 143000. The last",
    "step is main, which has safetensors; where a step has pickled weights only, the refusal says how to convert them.",
    "gated: accept the licence on the model's page on the hub and set HF_TOKEN.",
    "`arithcirc models NAME` shows one. Any other model of these types works by its Hugging Face id or folder.",
)


def _details(name: str, entry: "ZooEntry") -> None:
    """One model: sizes, revisions, memory in every precision, sources, and the command that analyses it."""
    from arithcirc.models.memory import BYTES, weights_bytes

    shape, full = entry.shape, _full_name(name, entry)
    limit = "split into digits" if entry.number_limit is None else f"0..{entry.number_limit} are single tokens"
    steps = "step0, step1, step2, step4, .. step512, step1000, .. step143000 (main; others may be pickled)"
    lines = {
        "type": shape.architecture,
        "parameters": f"{entry.n_params:,} (published: {entry.n_published:,}; {entry.source})",
        "sizes": f"{shape.n_layers} layers, {shape.n_heads} heads of {shape.d_head} ({shape.n_kv_heads} key-value), "
        f"d_model {shape.d_model}, MLP {shape.d_mlp}, vocabulary {shape.d_vocab}",
        "weights": f"{entry.dtype} as published; "
        + ", ".join(f"{d} {show.memory(weights_bytes(entry.n_params, d))}" for d in BYTES),
        "numbers": f"{limit} ({entry.limit_source})",
        "revisions": f"{len(entry.steps)}: {steps}" if entry.steps else _revisions(entry),
    }
    if entry.accuracies is not None:
        shown = ", ".join(f"{symbol} {value:.2f}" for symbol, value in zip("+-*/", entry.accuracies, strict=True))
        lines["the paper's"] = f"accuracy {shown} (arXiv 2410.21272)"
    if entry.gated:
        lines["access"] = "gated: accept the licence on the model's page on the hub and set HF_TOKEN"
    if entry.note:
        lines["note"] = entry.note
    lines["command"] = command(full, entry)
    show.out.print(full, markup=False)
    for label, text in lines.items():
        show.out.print(f"  {label:<12}{text}", markup=False)


def _full_name(name: str, entry: "ZooEntry") -> str:
    """The hub id asked for, `-deduped` kept."""
    return f"{entry.name}-deduped" if name.lower().endswith("-deduped") else entry.name


def _revisions(entry: "ZooEntry") -> str:
    from arithcirc.models.zoo import SHIPPED, shipped_folder, step_folders

    return ", ".join(step_folders(shipped_folder())) or "one" if entry.name == SHIPPED else "main, and the hub's own"


def command(name: str, entry: "ZooEntry") -> str:
    """The command that analyses a model on a GPU large enough."""
    from arithcirc.models.memory import weights_bytes
    from arithcirc.models.zoo import SHIPPED

    if entry.number_limit is None:
        return "none: numbers are split into digits, so its prompts are refused"
    if entry.name == SHIPPED:
        return "arithcirc analyze"
    asked = f"step{entry.steps[-1]}" if entry.steps else entry.safetensors_at
    revision = f" --revision {asked}" if asked else ""
    dtype = "bfloat16" if entry.n_params >= 1e9 else "float32"
    device = "--device-map auto" if weights_bytes(entry.n_params, dtype) > _LARGEST_GPU else "--device cuda"
    return f"arithcirc analyze {name}{revision} --dtype {dtype} {device}"


def _facts(entry: "ZooEntry") -> dict[str, object]:
    """Everything known about a model, ready for JSON."""
    from arithcirc.models.memory import BYTES, weights_bytes

    memory = {dtype: weights_bytes(entry.n_params, dtype) for dtype in BYTES}
    return {**asdict(entry), "n_params": entry.n_params, "weights_bytes": memory, "command": command(entry.name, entry)}
