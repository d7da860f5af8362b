"""`arithcirc models`: which models are known, without loading or downloading any."""

from rich.table import Table

from arithcirc.cli import show


def models() -> None:
    """List the shipped model, its checkpoints, and the models of the paper and their relatives."""
    from arithcirc.models.zoo import SHIPPED, ZOO, shipped_folder, step_folders

    table = Table(box=None, pad_edge=False)
    columns = ("model", "type", "layers", "heads", "d_model", "d_mlp", "numbers")
    for column in columns:
        table.add_column(column, justify="left" if column in columns[:2] else "right", no_wrap=True, overflow="fold")
    for entry in ZOO:
        sizes = (entry.n_layers, entry.n_heads, entry.d_model, entry.d_mlp)
        table.add_row(entry.name, entry.architecture, *map(str, sizes), f"0..{entry.number_limit}")
    show.out.print(table)
    show.out.print("")
    for entry in ZOO:
        show.out.print(f"{entry.name}: {entry.note}")
    show.out.print(f"{SHIPPED} revisions here: {', '.join(step_folders(shipped_folder())) or 'one'}")
    show.out.print("Any other GPT-NeoX or GPT-2 model works by its Hugging Face id or folder.")
