"""Is the suffix engine exact, and faster, on every supported architecture?

`python analyses/09_architectures/run.py` saves a random model of each at one size, loads it as any model is, patches a
sample of heads, MLPs and neurons by the engine and by full hooked forwards, and prints the tables of README.md. Takes
some minutes on one core.
"""

from tempfile import TemporaryDirectory
from typing import Any

import arithcirc as ac

SIZE = {"n_layers": 8, "n_heads": 8, "d_model": 256, "d_mlp": 1024, "d_vocab": 539, "n_positions": 64}
GROUPED = {"n_kv_heads": 2}
LOCAL = {"sliding_window": 4}
BOTH = {"layer_types": ["sliding_attention", "full_attention"] * 4}
SHAPES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "GPT-NeoX, parallel": ("GPTNeoXForCausalLM", {"rotary": 0.25}, {}),
    "GPT-NeoX, sequential": ("GPTNeoXForCausalLM", {"rotary": 0.25, "parallel": False}, {}),
    "GPT-2": ("GPT2LMHeadModel", {"tied": True}, {}),
    "GPT-J": ("GPTJForCausalLM", {"rotary": 0.5}, {}),
    "Llama 3": ("LlamaForCausalLM", GROUPED | {"rotary_base": 500_000.0, "long_rope": 8.0, "n_positions": 16384}, {}),
    "Mistral": ("MistralForCausalLM", GROUPED | LOCAL, {}),
    "Qwen 2": ("Qwen2ForCausalLM", GROUPED | {"tied": True}, {}),
    "Qwen 3": ("Qwen3ForCausalLM", GROUPED | {"d_head": 64}, {}),
    "Gemma 2": ("Gemma2ForCausalLM", GROUPED | LOCAL | {"d_head": 64, "tied": True, "softcap": 8.0,
                                                        "attention_softcap": 4.0}, BOTH),
    "Gemma 3": ("Gemma3ForCausalLM", GROUPED | LOCAL | {"d_head": 64, "tied": True}, BOTH),
    "OLMo 2": ("Olmo2ForCausalLM", GROUPED, {}),
}  # fmt: skip
KINDS = ("head", "mlp", "neuron")


def compared(architecture: str, sizes: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    """One row: largest relative difference per kind, patches, how many move the logits, times faster."""
    config = ac.configuration(ac.Shape(architecture, **(SIZE | sizes)), initializer_range=0.06, **settings)
    with TemporaryDirectory() as folder:
        ac.save_random(config, folder, ac.load().tokenizer)
        model = ac.load(folder, device="cpu")
    found = ac.check_exactness(model, *ac.random_tokens(model, 4), per_kind=512, batch_size=512)
    worst = found.groupby("kind")["relative"].max()
    seconds = found[["hooked_seconds", "engine_seconds"]].sum()
    moved = (found["moved"] * found["patches"]).sum() / found["patches"].sum()
    faster = seconds["hooked_seconds"] / seconds["engine_seconds"]
    return [*(f"{worst[k]:.1e}" for k in KINDS), f"{found['patches'].sum():,}", f"{moved:.0%}", f"{faster:.1f}"]


def main() -> None:
    """Compare, print."""
    print("| architecture | class | blocks | heads | MLPs | neurons | patches | move the logits | times faster |")
    print("|---|---|---|---:|---:|---:|---:|---:|---:|")
    for name, (architecture, sizes, settings) in SHAPES.items():
        cells = [name, f"`{architecture}`", ac.ARCHITECTURES[architecture].blocks]
        print(f"| {' | '.join([*cells, *compared(architecture, sizes, settings)])} |", flush=True)
    print("\n| refused | why |\n|---|---|")
    for architecture, reason in ac.REFUSED_ARCHITECTURES.items():
        print(f"| `{architecture}` | {reason} |")


if __name__ == "__main__":
    main()
