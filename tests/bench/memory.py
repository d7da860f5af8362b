"""How well peak memory is predicted: `python tests/bench/memory.py`, part of `make bench`.

Every stage of an analysis on the CPU (or `--device cuda`), one after another in one process: what the plan says beside
what the manifest has. `shipped` is the shipped model; `neox` and `llama` are random models with a vocabulary of 50,304,
pushed towards one answer so that there are right ones to analyse.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from timing import write_rows
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

from arithcirc.config import CircuitConfig, HeuristicConfig, KnockoutConfig, NeuronConfig, ProbeConfig, PromptConfig
from arithcirc.models.load import load
from arithcirc.models.protocol import HookedModel
from arithcirc.pipeline.job import Job, open_job
from arithcirc.pipeline.run import run_stages, stages_for
from arithcirc.training.tokenizer import BOS_ID, NUMBER_ID, build_tokenizer

MODELS = ("shipped", "neox", "llama")
OPTIONS: dict[str, Any] = {
    "prompts": PromptConfig(operators="-", operands="0..40", n_discover=10, n_evaluate=10, counterfactual_seeds=1),
    "circuit": CircuitConfig(random_circuits=1, n_heads=10),
    "neurons": NeuronConfig(top=20, first_layer=2, random_draws=1),
    "probe": ProbeConfig(prompts=600, epochs=2),
    "heuristics": HeuristicConfig(draws=20),
    "knockout": KnockoutConfig(prompts=5, by_prompt=3),
}


def random_model(kind: str, folder: Path, *, width: int, vocabulary: int) -> Path:
    """A random model that often answers 1, in Hugging Face format; its MLPs are four times as wide as its stream."""
    shape: dict[str, Any] = {
        "vocab_size": vocabulary, "hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": 6,
        "num_attention_heads": 6, "max_position_embeddings": 32, "tie_word_embeddings": False,
        "bos_token_id": BOS_ID, "eos_token_id": BOS_ID,
    }  # fmt: skip
    torch.manual_seed(0)
    if kind == "neox":
        model: Any = GPTNeoXForCausalLM(GPTNeoXConfig(**shape))
    else:
        model = LlamaForCausalLM(LlamaConfig(**shape, num_key_value_heads=2))
    with torch.no_grad():  # every token carries the answer's direction
        unembed = model.get_output_embeddings().weight
        direction = torch.nn.functional.normalize(unembed[NUMBER_ID + 1], dim=0)
        unembed[NUMBER_ID + 1] += direction
        model.get_input_embeddings().weight += direction
    model.save_pretrained(folder)
    build_tokenizer(520).save_pretrained(folder)
    return folder


def measured(model: HookedModel, out: Path, batch_size: int) -> dict[str, dict[str, Any]]:
    """Predicted and measured peak of every stage, MB."""
    stages = stages_for()
    sections = list(dict.fromkeys(section for stage in stages for section in stage.sections))
    job: Job = open_job(model, out, **OPTIONS, sections=sections, batch_size=batch_size)
    run_stages(job, stages)
    facts = {stage.name: job.run.manifest["stages"][stage.name]["memory"] for stage in stages}
    return {name: {key: value and round(value / 1e6, 1) for key, value in fact.items()} for name, fact in facts.items()}


def main() -> None:
    """Print a table and write the rows `memory_<model>`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--quick", action="store_true", help="small random models")
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    asked = parser.parse_args()
    size = {"width": 48, "vocabulary": 2000} if asked.quick else {"width": 384, "vocabulary": 50_304}
    rows: dict[str, Any] = {}
    console = Console()
    with tempfile.TemporaryDirectory() as work:
        for name in asked.models:
            source = None if name == "shipped" else str(random_model(name, Path(work) / name, **size))
            stages = measured(load(source, device=asked.device), Path(work) / "runs", asked.batch_size)
            peaks = {key: max(stage[key] or 0 for stage in stages.values()) for key in ("predicted", "measured")}
            rows[f"memory_{name}"] = {
                "stages": stages,
                **peaks,
                "ratio": peaks["predicted"] / max(1, peaks["measured"]),
            }
            for stage, row in {**stages, "in all": peaks}.items():
                console.print(f"{name:<8} {stage:<13} predicted {row['predicted']} MB, measured {row['measured']} MB")
    write_rows(asked.out, rows, owner="memory")


if __name__ == "__main__":
    main()
