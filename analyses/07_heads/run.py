"""What the circuit's heads do at `=`: where they look, what they bring, and what cutting edges costs (paper: appendix).

`python analyses/07_heads/run.py` analyses the shipped model into runs/ as far as the heads (about five minutes on two
cores, reused when it is there), asks heads that look at one operand whether they choose it by its size, prints the
numbers that README.md quotes and draws figures/07_heads/.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

import arithcirc as ac

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / "figures" / "07_heads"
COMMAND = "python analyses/07_heads/run.py"
PROMPTS, SHARP = 2000, 0.9
KEYS = ["operator", "layer", "head"]


def tables(run: ac.RunFolder) -> None:
    """Attention from `=`, decodable parts and cuts."""
    heads, copies = (t[t["in_circuit"]] for t in (run.table("heads"), run.table("head_copies")))
    values = ["attention", "attention_std"]
    print("attention from '=': mean, standard deviation over prompts")
    print(heads.pivot_table(index=KEYS, columns="position", values=values, sort=False).round(2).to_string())
    print("\nheld-out accuracy of linear probes on the heads' outputs at '='")
    print(copies.pivot_table(index=KEYS, columns="what", values="accuracy", sort=False).round(2).to_string())
    print(copies.groupby(["operator", "what"], sort=False)[["base_rate", "n"]].first().round(3).to_string())
    print("\ncuts (to <- from)\n", run.table("head_cuts").round(3).to_string())


def readable(z: torch.Tensor, numbers: np.ndarray) -> float:
    """Held-out accuracy of one linear probe for these numbers, trained like the probes of the stage `heads`."""
    labels, how = torch.from_numpy(np.unique(numbers, return_inverse=True)[1]), ac.ProbeConfig()
    options = {"learning_rate": how.learning_rate, "batch": how.batch, "epochs": how.epochs}
    drawn, n_classes = torch.Generator().manual_seed(0), int(labels.max()) + 1
    return float(ac.train_probes(z[None], labels, n_classes=n_classes, generator=drawn, **options).accuracy[0])


def choosing(model: ac.HookedModel, run: ac.RunFolder, symbol: str) -> pd.DataFrame:
    """Where heads look and what can be read from them, by the operands' sizes: random legal prompts, op1 != op2."""
    encoder, rng = ac.prompt_encoder(model.tokenizer, vocab_size=model.info.d_vocab), np.random.default_rng(0)
    prompts = ac.legal_prompts(ac.operator(symbol), ac.OperandRange(), encoder.limit)
    prompts = prompts[np.flatnonzero(prompts.op1 != prompts.op2)]
    prompts = prompts[rng.permutation(len(prompts))[:PROMPTS]]
    seen = model.activations(torch.from_numpy(encoder.encode(prompts)), parts={"pattern", "z"})
    operands = np.stack([prompts.op1, prompts.op2])
    wanted = dict(zip(("op1", "op2", "smaller", "larger"), [*operands, operands.min(0), operands.max(0)], strict=True))
    places = [encoder.index(position) for position in (ac.Position.OP1, ac.Position.OP2)]
    heads, rows = run.table("heads"), []
    heads = heads.loc[heads["in_circuit"] & (heads["operator"] == symbol), ["layer", "head"]].drop_duplicates()
    for layer, head in heads.to_numpy().tolist():
        pair = seen.pattern[layer][:, head, -1][:, places].numpy()
        sharp = pair.max(axis=1) > SHARP
        if sharp.mean() > 0.5:
            looked = (pair.argmax(axis=1) == operands.argmin(axis=0))[sharp].mean()
            read = {name: readable(seen.z[layer][:, -1, head], numbers) for name, numbers in wanted.items()}
            who = {"operator": symbol, "head": f"L{layer}H{head}", "n": int(sharp.sum())}
            rows.append(who | {"share": sharp.mean(), "at the smaller": looked} | read)
    return pd.DataFrame(rows)


def main() -> None:
    """Analyse, print, draw."""
    model = ac.load()
    run = ac.analyze(model, ROOT / "runs", upto="heads")
    tables(run)
    print(f"\nheads with over {SHARP} of their attention on one operand in most of {PROMPTS} prompts; probes' accuracy")
    print(pd.concat([choosing(model, run, symbol) for symbol in "+/"]).round(3).to_string(index=False))
    drawn = ("head_attention", "head_copies", "head_cuts")
    written = ac.write_figures(run, FIGURES, ("png",), command=COMMAND, only=drawn, at_most=300_000)
    print(f"\n{len(written)} figures: {FIGURES.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
