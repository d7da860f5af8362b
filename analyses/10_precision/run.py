"""What do bfloat16 and float16 change: effects, ranks, circuits, labels? Is it the weights, the stream or the logits?

`python analyses/10_precision/run.py` analyses the shipped model up to its labels five times on the same 400 pairs of
prompts, into runs/precision/ (half an hour on one core, half of it float16, which CPUs are slow at; finished runs are
reused), prints the numbers that README.md quotes and draws figures/10_precision/.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch
from safetensors.torch import load_file, save_file

import arithcirc as ac

ROOT = Path(__file__).resolve().parents[2]
RUNS, SHIPPED = ROOT / "runs" / "precision", ROOT / "data" / "models" / "neox-arith" / "step4000"
FIGURES, COMMAND = ROOT / "figures" / "10_precision", "python analyses/10_precision/run.py"
PROMPTS = 50
ARMS = {
    "bfloat16": "bfloat16",
    "bfloat16, logits rounded": "bfloat16",
    "float16": "float16",
    "float32, weights moved": "float32",
}
SHOWN = ["operator", "layer", "k", "spearman", "overlap", "expected", "spread", "median", "q99"]


def unrounded() -> Path:
    """The shipped weights, which are bfloat16 numbers, each moved at random to a float32 that rounds to it."""
    folder, draw = RUNS / "models" / "neox-arith", torch.Generator().manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    for file in SHIPPED.glob("*.json"):
        (folder / file.name).write_bytes(file.read_bytes())
    weights = {name: w.float() for name, w in load_file(SHIPPED / "model.safetensors").items()}
    for name, w in weights.items():
        spacing = 2.0 ** (w.abs().clamp_min(1e-30).log2().floor() - 7)
        moved = w + 0.49 * spacing * (2 * torch.rand(w.shape, generator=draw) - 1)
        weights[name] = torch.where(moved.bfloat16().float() == w, moved, w)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def analysed(arm: str, dtype: str, pairs: Path) -> ac.RunFolder:
    """One run up to the labels."""
    moved = arm.endswith("moved")
    model = ac.load(str(unrounded()) if moved else None, dtype=dtype, device="cpu")
    if "logits" in arm:
        del model.bridge.unembed.original_component.forward  # back to the layer's own, which rounds
    return ac.analyze(
        model, RUNS / arm.replace(", ", "+").replace(" ", "_"), pairs_file=pairs, upto="heuristics",
        circuit=ac.CircuitConfig(mean_prompts=1000, random_circuits=2),
        probe=ac.ProbeConfig(prompts=2000), neurons=ac.NeuronConfig(random_draws=1),
    )  # fmt: skip


def main() -> None:
    """Choose pairs, analyse, compare, print, draw."""
    RUNS.mkdir(parents=True, exist_ok=True)
    pairs = RUNS / "pairs.csv"
    sampled = ac.pairs_of(ac.analyze(ac.load(device="cpu"), ROOT / "runs", upto="prompts"))
    sampled.groupby(["operator", "set"], sort=False).head(PROMPTS).to_csv(pairs, index=False)
    reference = analysed("float32", "float32", pairs)
    tables: dict[str, list[pd.DataFrame]] = {}
    for arm, dtype in ARMS.items():
        for name, table in ac.compare_runs(reference, analysed(arm, dtype, pairs)).items():
            tables.setdefault(name, []).append(table.assign(run=arm))
            shown = table.query("score == 'mean + sd' or position == 'any'")[SHOWN] if name == "agreement" else table
            print(f"\n{arm}: {name}\n{shown.round(4).to_string(index=False)}", flush=True)
    with TemporaryDirectory() as folder:
        drawn = ac.RunFolder(Path(folder), reference.manifest)
        for name in ("agreement", "sizes"):
            drawn.write_table(f"run_{name}", pd.concat(tables[name], ignore_index=True))
        ac.write_figures(drawn, FIGURES, ("png",), command=COMMAND, only=("run_agreement", "run_sizes"))


if __name__ == "__main__":
    main()
