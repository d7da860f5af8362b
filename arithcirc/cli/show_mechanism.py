"""What the terminal shows of probes, neurons, heads, labels and ablations."""

import math
from typing import TYPE_CHECKING

from rich.table import Table
from safetensors import safe_open

from arithcirc.cli.show import out
from arithcirc.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arithcirc.cli.options import PromptOptions
    from arithcirc.heuristics.knockouts import Guess, HeuristicCase, PromptCase
    from arithcirc.pipeline.job import Job
    from arithcirc.store import RunFolder


def probes(run: "RunFolder") -> None:
    """Accuracy at `=` by layer, and the layer that follows from it."""
    table = run.table("probes")
    at_equals = table[table["position"] == "equals"]
    for operator, rows in at_equals.groupby("operator", sort=False):
        by_layer = " ".join(f"{a:.2f}" for a in rows.sort_values("layer")["accuracy"])
        out.print(f"{operator}  probe at '=' by layer, held-out accuracy: {by_layer}")
    for row in run.table("first_layers").to_dict("records"):
        out.print(f"{row['operator']}  first heuristics layer {row['layer']}: {row['rule']}")


def neurons(run: "RunFolder") -> None:
    """How many neurons count as important, the strongest ones, and how well the estimate ranks."""
    table, agreement = run.table("neurons"), run.table("neuron_agreement")
    exact = table[(table["method"] == "exact") & (table["metric"] == "logit_diff")]
    for operator, rows in exact.groupby("operator", sort=False):
        mine = rows[rows["important"].astype(bool)]
        top = rows.assign(strength=rows["effect"] + rows["std"]).nlargest(5, "strength")
        named = ", ".join(f"L{r.layer}N{r.neuron} {r.effect:.2f}±{r.std:.2f}" for r in top.itertuples())
        rank = agreement[agreement["operator"] == operator]
        out.print(
            f"{operator}  {len(mine)} of {len(rows)} neurons are important; strongest (nats): {named}; "
            f"the estimate ranks with Spearman {rank['spearman'].min():.2f} to {rank['spearman'].max():.2f}, "
            f"top-{rank['top'].iloc[0]} overlap {rank['overlap'].min():.2f} to {rank['overlap'].max():.2f}"
        )


def heads(run: "RunFolder") -> None:
    """Where each head of the circuits looks most, and what is decoded from it best."""
    looks, copies = run.table("heads"), run.table("head_copies")
    for operator, rows in looks[looks["in_circuit"].astype(bool)].groupby("operator", sort=False):
        most = rows.loc[rows.groupby(["layer", "head"])["attention"].idxmax()]
        mine = copies[copies["operator"] == operator]
        said = []
        for row in most.itertuples():
            decoded = mine[(mine["layer"] == row.layer) & (mine["head"] == row.head)].nlargest(1, "accuracy")
            what = "".join(f", {d.what} {d.accuracy:.2f}" for d in decoded.itertuples())
            said.append(f"L{row.layer}H{row.head} {row.position} {row.attention:.2f}{what}")
        out.print(f"{operator}  heads by attention from '=' and what is decoded: {'; '.join(said)}")


def labels(run: "RunFolder") -> None:
    """How many neurons carry a label, and the most frequent heuristics."""
    table = run.table("heuristics")
    for row in run.table("label_summary").to_dict("records"):
        mine = table[(table["operator"] == row["operator"]) & table["significant"].astype(bool)]
        often = ", ".join(f"{name} ({n})" for name, n in mine["heuristic"].value_counts().head(4).items())
        out.print(
            f"{row['operator']}  {row['matched']} of {row['important']} neurons have a label at the threshold, "
            f"{row['significant']} a significant one ({row['structured']} without single values and sets); "
            f"most frequent: {often or 'none'}"
        )


def maps(run: "RunFolder") -> None:
    """How many neurons' activation maps were kept, and where."""
    for name in run.manifest["stages"].get("maps", {}).get("outputs", {}):
        with safe_open(run.path / name, framework="numpy") as file:
            n = file.get_slice("neurons").get_shape()[0]
        out.print(f"activation maps of {n} neurons: {run.path / name}")


def verdicts(run: "RunFolder") -> None:
    """The bag-of-heuristics predictions, held against the ablations."""
    for row in run.table("bag_of_heuristics").to_dict("records"):
        detail = str(row["detail"]).removeprefix("not tested: ")
        word = "not tested:" if math.isnan(row["statistic"]) else "holds." if row["holds"] else "DOES NOT HOLD."
        out.print(f"{row['operator']}  {row['prediction']}: {word} {detail}", markup=False)


def failures(run: "RunFolder") -> None:
    """The rank tests between prompts answered rightly and wrongly."""
    for row in run.table("failure_tests").to_dict("records"):
        note = row["note"] if isinstance(row["note"], str) else ""
        if math.isnan(row["p"]):
            out.print(f"{row['operator']}  {row['measure']}: {note or 'not tested'}", markup=False)
            continue
        numbers = f"median {row['median_correct']:.2f} when right, {row['median_incorrect']:.2f} when wrong"
        note = f" ({note})" if note else ""
        n = f"{row['n_correct']} and {row['n_incorrect']} prompts"
        out.print(f"{row['operator']}  {row['measure']}: {numbers}, p = {row['p']:.2g}, {n}{note}")


# -- one case ---------------------------------------------------------------------------------------------------------


def check_case(heuristic: str | None, prompt: str | None, per_layer: int | None, options: "PromptOptions") -> None:
    """Refuse what cannot be one case before anything is loaded; the model's largest number is not known yet."""
    if heuristic is not None:
        from arithcirc.heuristics.names import parse_heuristic

        parse_heuristic(heuristic)
    if per_layer is not None and (prompt is None or heuristic is not None or per_layer < 1):
        raise RequestError(f"--per-layer {per_layer} goes with --prompt alone, and is 1 or more")
    if prompt is not None:
        from arithcirc.arithmetic.operators import OperandRange, parse_operators
        from arithcirc.arithmetic.reading import read_prompt

        symbol = str(read_prompt(prompt, OperandRange.parse(options.operands)).symbols[0])
        if options.pairs is None:
            _check_operator(prompt, symbol, [op.symbol for op in parse_operators(options.operators)])


def _check_operator(prompt: str, symbol: str, analysed: "Sequence[str]") -> None:
    if symbol not in analysed:
        raise RequestError(f"{prompt!r} is of {symbol}, but the run has {' '.join(analysed)}: use --operators")


def case(job: "Job", heuristic: str | None, prompt: str | None, per_layer: int | None) -> None:
    """Knock out one heuristic, or the heuristics of one prompt, and show what is answered."""
    import numpy as np

    from arithcirc.arithmetic.reading import read_prompt
    from arithcirc.heuristics.knockouts import knock_out_heuristic, knock_out_prompt
    from arithcirc.pipeline.knockout_stages import labels_of

    labelled = {symbol: labels for symbol, labels, _ in labels_of(job)}
    if prompt is not None:
        one = read_prompt(prompt, job.operands, job.encoder.limit)
        symbol = str(one.symbols[0])
        _check_operator(prompt, symbol, list(labelled))
        shown = knock_out_prompt(
            job.model, job.encoder, labelled[symbol], one, per_layer=per_layer, heuristic=heuristic
        )
        _prompt_case(shown, heuristic)
        return
    refused: list[str] = []
    for symbol, labels in labelled.items():
        try:
            found = knock_out_heuristic(
                job.model, job.encoder, labels, str(heuristic), job.rng("case", symbol),
                n=job.config.knockout.prompts, batch_size=job.batch_size,
            )  # fmt: skip
        except RequestError as error:
            refused.append(f"{symbol}: {error}")
            continue
        _heuristic_case(found)
    if len(refused) == len(labelled):
        if other := [line for line in refused if "no neuron is labelled" not in line]:
            raise RequestError(other[0])
        frequent = [labels.names[i] for labels in labelled.values() for i in np.argsort(-labels.carried.sum(0))[:2]]
        raise RequestError(
            f"no neuron of {' '.join(labelled)} is labelled with {heuristic!r}: use one of the table heuristics, "
            f"for example {', '.join(repr(name) for name in dict.fromkeys(frequent))}"
        )
    for line in refused:
        out.print(line, markup=False)


def _heuristic_case(found: "HeuristicCase") -> None:
    out.print(f"{found.operator}  {found.heuristic}: {_count(found.neurons)} zeroed at '='", markup=False)
    for name, side in (("inside", found.inside), ("outside", found.outside)):
        out.print(
            f"   {name}: accuracy {side.accuracy:.2f} [{side.low:.2f}, {side.high:.2f}] on {side.n} prompts answered "
            f"correctly; as many random neurons of the same layers: {side.random:.2f}",
            markup=False,
        )
    _guesses(found.examples)


def _prompt_case(found: "PromptCase", heuristic: str | None) -> None:
    rules = f"heuristic {heuristic!r}" if heuristic else f"{len(found.heuristics)} heuristics that hold of it"
    out.print(f"{found.prompt}{found.answer}: {_count(found.neurons)} of {rules} zeroed at '='", markup=False)
    if not heuristic:
        out.print("   " + "; ".join(found.heuristics), markup=False)
    _guesses((found,))


def _count(neurons: dict[int, tuple[int, ...]]) -> str:
    by_layer = ", ".join(f"layer {layer}: {len(ids)}" for layer, ids in neurons.items())
    return f"{sum(map(len, neurons.values()))} neurons ({by_layer or 'none'})"


def _guesses(cases: "tuple[PromptCase, ...]") -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("prompt", "answer", "before", "after"):
        table.add_column(column)
    for found in cases:
        table.add_row(found.prompt, str(found.answer), _likely(found.before), _likely(found.after))
    out.print(table)


def _likely(guesses: "tuple[Guess, ...]") -> str:
    return "  ".join(f"{g.token.strip() or g.token!r} {g.probability:.2f}" for g in guesses)
