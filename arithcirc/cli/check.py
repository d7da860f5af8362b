"""`arithcirc check`: is the suffix engine exact on this model? Heavy imports stay in the function."""

from typing import TYPE_CHECKING

from rich.table import Table

from arithcirc.cli import show
from arithcirc.cli.execute import check_batch_size, check_loading
from arithcirc.cli.options import LoadOptions

if TYPE_CHECKING:
    from pandas import DataFrame

    from arithcirc.models.protocol import ModelInfo

_MODEL = LoadOptions()
_TINY = 10_000_000
"""Weights below which the verdict leaves out the ratio of the times: fractions of a second, much of it calls."""


def check(
    model: str | None = None,
    *,
    patches: int = 256,
    prompts: int = 4,
    tokens: int = 5,
    seed: int = 0,
    batch_size: int = 256,
    options: LoadOptions = _MODEL,
) -> None:
    """Compare the suffix engine with full hooked forwards on a model; exit code 1 where they differ.

    Loading compares the wrapped model with plain transformers first. Prompts are random tokens, as exactness does not
    depend on what they say. Half precision only shows large errors.

    Parameters
    ----------
    model
        Hugging Face id or local folder (default: the shipped model).
    patches
        Heads, MLPs and neurons to compare, each: at least one per layer and token, and all where there are no more.
    prompts
        Prompts that each patch is made on.
    tokens
        Tokens per prompt; give more to see past a sliding window.
    seed
        Seed of the tokens and of the sample.
    batch_size
        Rows in flight.
    """
    check_batch_size(batch_size)
    _check_numbers(patches, prompts, tokens, seed)
    check_loading(model, options)
    show.passing("loading ...")
    from arithcirc.measure.exactness import check_exactness, n_patches, random_tokens
    from arithcirc.models.load import load, set_threads

    set_threads(options.threads)
    loaded = load(model, **options.loading())
    clean, source = random_tokens(loaded, prompts, length=tokens, seed=seed)
    total, done = n_patches(loaded, tokens, per_kind=patches), 0
    with show.progress() as report:

        def advance(n: int) -> None:
            nonlocal done
            done += n
            report("check", done, total)

        table = check_exactness(
            loaded, clean, source, per_kind=patches, seed=seed, batch_size=batch_size, progress=advance
        )
    info = loaded.info
    show.wide(_shown(table, f"{info.name} ({info.revision}, {info.architecture}, {info.dtype}, {info.device})"))
    _verdict(table, info, prompts)


def _check_numbers(patches: int, prompts: int, tokens: int, seed: int) -> None:
    """Refuse what cannot be compared, before anything is loaded."""
    from arithcirc.errors import RequestError

    for name, given, least in (
        ("patches", patches, 1),
        ("prompts", prompts, 1),
        ("tokens", tokens, 2),
        ("seed", seed, 0),
    ):
        if given < least:
            raise RequestError(f"--{name} {given} is too small: give {least} or more")


def _shown(found: "DataFrame", title: str) -> Table:
    """The comparison, a row per kind and token."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    columns = ("kind", "token", "patches", "difference", "relative", "moved", "engine", "hooked", "ratio")
    for column in columns:
        table.add_column(column, justify="left" if column == "kind" else "right", no_wrap=True)
    for row in found.to_dict("records"):
        table.add_row(
            row["kind"],
            str(row["token"]),
            f"{row['patches']:,}",
            f"{row['difference']:.1e}",
            f"{row['relative']:.1e}",
            f"{row['moved']:.0%}",
            f"{row['engine_seconds']:.2f} s",
            f"{row['hooked_seconds']:.2f} s",
            f"{row['hooked_seconds'] / row['engine_seconds']:.1f}",
        )
    return table


def _verdict(found: "DataFrame", info: "ModelInfo", prompts: int) -> None:
    """One line. Raises ArithcircError where the two sides differ, or where nothing was compared."""
    from arithcirc.errors import ArithcircError
    from arithcirc.measure.exactness import TOLERANCE

    name, dtype = info.name, info.dtype
    rows, bound = found.to_dict("records"), TOLERANCE[dtype]
    worst = max(rows, key=lambda row: row["relative"])
    half = dtype != "float32"
    if worst["relative"] > bound:
        raise ArithcircError(
            f"not exact on {name}: a {worst['kind']} at token {worst['token']} differs by {worst['relative']:.1e} of "
            f"the largest logit, more than rounding explains in {dtype} ({bound:g}): "
            + ("try --dtype float32" if half else "do not trust effects of this model, and please report it")
        )
    if not found["moved"].any():
        raise ArithcircError(
            f"nothing to compare on {name}: no patch moves the logits by more than rounding; "
            f"give {'--dtype float32' if half else 'another --seed or more --patches'}"
        )
    ratio = found["hooked_seconds"].sum() / found["engine_seconds"].sum()
    speed = f"here the engine takes {1 / ratio:.2f} of the time of hooked forwards"
    if info.n_params < _TINY:
        speed = "the speed on a model this small means little"
    show.out.print(
        f"exact up to rounding: {found['patches'].sum():,} patches on {prompts} prompts differ by at most "
        f"{worst['relative']:.1e} of the largest logit, within {bound:g} for {dtype}; {speed}"
    )
