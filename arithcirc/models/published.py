"""Published models: shapes, weights and sources, as data. Nothing here is downloaded, nothing heavy imported.

Sizes are those of `config.json` on the Hugging Face hub (the page of each entry's `name`); `n_published` is the count
of parameters given by the entry's `source`, which a test compares with the shape's. Accuracies are the paper's
(Nikankin et al. 2024, arXiv 2410.21272), operands 0..300. The single-token limit only helps to choose a model: every
run reads it off the tokenizer.
"""

from dataclasses import dataclass

from arithcirc.models.shapes import Shape, n_params

PYTHIA_STEPS = (0, *(2**power for power in range(10)), *range(1000, 144_000, 1000))
"""Training steps with a published checkpoint, of every Pythia model (Biderman et al. 2023, arXiv 2304.01373): 154."""


_THREE_DIGITS = "the tokenizer's rule: runs of up to three digits"
_PAGE = "configuration and weights on the model's hub page"


@dataclass(frozen=True)
class ZooEntry:
    """A model people ask for.

    `dtype` is the published weights'. `number_limit` is the largest n such that 0..n are single tokens, with where that
    is from; None where numbers are split into digits, so that prompts are refused. `accuracies`: the paper's, + - * /.
    `safetensors_at`: the revision to ask for where `main` has pickled weights only.
    """

    name: str
    shape: Shape
    dtype: str
    n_published: int
    source: str
    number_limit: int | None
    limit_source: str
    note: str = ""
    gated: bool = False
    steps: tuple[int, ...] = ()
    accuracies: tuple[float, float, float, float] | None = None
    safetensors_at: str | None = None

    @property
    def n_params(self) -> int:
        """Parameters, from the shape."""
        return n_params(self.shape)


def _pythia(
    size: str, n_layers: int, d_model: int, n_heads: int, n_published: int, *,
    d_vocab: int = 50304, accuracies: tuple[float, float, float, float] | None = None,
) -> ZooEntry:  # fmt: skip
    deduped = size not in ("14m", "31m")
    return ZooEntry(
        f"EleutherAI/pythia-{size}",
        Shape("GPTNeoXForCausalLM", n_layers, n_heads, d_model, 4 * d_model, d_vocab, rotary=0.25),
        "float16",
        n_published,
        "model card and arXiv 2304.01373" if deduped else _PAGE,
        530,
        "measured",
        f"also EleutherAI/pythia-{size}-deduped" if deduped else "",
        steps=PYTHIA_STEPS,
        accuracies=accuracies,
    )


def _llama(
    name: str, n_layers: int, d_model: int, n_heads: int, d_mlp: int, n_published: int, *,
    tied: bool = False, long_rope: float | None = None,
    accuracies: tuple[float, float, float, float] | None = None,
) -> ZooEntry:  # fmt: skip
    shape = Shape(
        "LlamaForCausalLM", n_layers, n_heads, d_model, d_mlp, 128_256, n_kv_heads=8, tied=tied,
        rotary_base=500_000.0, long_rope=long_rope, n_positions=131_072 if long_rope else 8192,
    )  # fmt: skip
    where = "from the paper" if accuracies else _THREE_DIGITS
    return ZooEntry(
        f"meta-llama/{name}", shape, "bfloat16", n_published, _PAGE, 999, where,
        gated=True, accuracies=accuracies,
    )  # fmt: skip


def _gpt2(name: str, n_layers: int, d_model: int, n_heads: int, n_published: int) -> ZooEntry:
    shape = Shape(
        "GPT2LMHeadModel", n_layers, n_heads, d_model, 4 * d_model, 50257, tied=True, rotary=0.0, n_positions=1024
    )
    return ZooEntry(
        f"openai-community/{name}", shape, "float32", n_published, _PAGE, 520,
        "about 520: the paper's for GPT-J, whose tokenizer it shares", "arithmetic is weak; useful for checks",
    )  # fmt: skip


def _digits(name: str, shape: Shape, dtype: str, n_published: int, *, gated: bool = False, note: str = "") -> ZooEntry:
    """A model whose tokenizer writes numbers digit by digit."""
    where = "its tokenizer writes digits one by one"
    return ZooEntry(name, shape, dtype, n_published, _PAGE, None, where, note, gated)


def _gemma2(name: str, n_layers: int, d_model: int, n_heads: int, d_mlp: int, n_published: int) -> ZooEntry:
    shape = Shape(
        "Gemma2ForCausalLM", n_layers, n_heads, d_model, d_mlp, 256_000, n_kv_heads=n_heads // 2, d_head=256, tied=True,
        n_positions=8192, sliding_window=4096, attention_softcap=50.0, softcap=30.0,
    )  # fmt: skip
    return _digits(f"google/{name}", shape, "float32", n_published, gated=True)


def _mistral(name: str, d_vocab: int, n_published: int, base: float, window: int | None) -> ZooEntry:
    shape = Shape(
        "MistralForCausalLM", 32, 32, 4096, 14336, d_vocab, n_kv_heads=8, rotary_base=base, n_positions=32_768,
        sliding_window=window,
    )  # fmt: skip
    return _digits(f"mistralai/{name}", shape, "bfloat16", n_published)


def _olmo2(name: str, n_layers: int, d_model: int, n_heads: int, d_mlp: int, n_published: int) -> ZooEntry:
    shape = Shape(
        "Olmo2ForCausalLM", n_layers, n_heads, d_model, d_mlp, 100_352, rotary_base=500_000.0, n_positions=4096
    )
    return ZooEntry(
        f"allenai/{name}", shape, "float32", n_published, _PAGE, 999,
        _THREE_DIGITS,
    )  # fmt: skip


_GPTJ = Shape("GPTJForCausalLM", 28, 16, 4096, 16384, 50400, rotary=0.25)
_QWEN25_SMALL = Shape(
    "Qwen2ForCausalLM", 24, 14, 896, 4864, 151_936, n_kv_heads=2, tied=True, rotary_base=1e6, n_positions=32_768
)
_QWEN25 = Shape("Qwen2ForCausalLM", 28, 28, 3584, 18944, 152_064, n_kv_heads=4, rotary_base=1e6, n_positions=131_072)
_QWEN3 = Shape("Qwen3ForCausalLM", 36, 32, 4096, 12288, 151_936, 8, 128, rotary_base=1e6, n_positions=40_960)
_GEMMA3 = Shape(
    "Gemma3ForCausalLM", 26, 4, 1152, 6912, 262_144, 1, 256, tied=True, rotary_base=1e6, n_positions=32_768,
    sliding_window=512,
)  # fmt: skip

PUBLISHED = (
    _pythia("14m", 6, 128, 4, 14_067_712),
    _pythia("31m", 6, 256, 8, 30_494_720),
    _pythia("70m", 6, 512, 8, 70_426_624),
    _pythia("160m", 12, 768, 12, 162_322_944),
    _pythia("410m", 24, 1024, 16, 405_334_016),
    _pythia("1b", 16, 2048, 8, 1_011_781_632),
    _pythia("1.4b", 24, 2048, 16, 1_414_647_808),
    _pythia("2.8b", 32, 2560, 32, 2_775_208_960),
    _pythia("6.9b", 32, 4096, 32, 6_857_302_016, d_vocab=50432, accuracies=(0.30, 0.04, 0.27, 0.75)),
    _pythia("12b", 36, 5120, 40, 11_846_072_320, d_vocab=50688),
    ZooEntry(
        "EleutherAI/gpt-j-6b", _GPTJ, "float32", 6_053_381_344, "model card", 520, "about 520, from the paper",
        "main holds pickled weights only, which are refused; refs/pr/40 is the hub's conversion of them",
        accuracies=(0.23, 0.09, 0.46, 0.64), safetensors_at="refs/pr/40",
    ),
    _llama("Meta-Llama-3-8B", 32, 4096, 32, 14336, 8_030_261_248, accuracies=(0.97, 0.96, 0.84, 0.92)),
    _llama("Meta-Llama-3-70B", 80, 8192, 64, 28672, 70_553_706_496, accuracies=(0.97, 0.99, 0.99, 0.73)),
    _llama("Llama-3.1-8B", 32, 4096, 32, 14336, 8_030_261_248, long_rope=8.0),
    _llama("Llama-3.2-1B", 16, 2048, 32, 8192, 1_235_814_400, tied=True, long_rope=32.0),
    _llama("Llama-3.2-3B", 28, 3072, 24, 8192, 3_212_749_824, tied=True, long_rope=32.0),
    _olmo2("OLMo-2-1124-7B", 32, 4096, 32, 11008, 7_298_617_344),
    _olmo2("OLMo-2-1124-13B", 40, 5120, 40, 13824, 13_716_198_400),
    _gpt2("gpt2", 12, 768, 12, 124_439_808),
    _gpt2("gpt2-medium", 24, 1024, 16, 354_823_168),
    _gpt2("gpt2-large", 36, 1280, 20, 774_030_080),
    _gpt2("gpt2-xl", 48, 1600, 25, 1_557_611_200),
    _mistral("Mistral-7B-v0.1", 32_000, 7_241_732_096, 1e4, 4096),
    _mistral("Mistral-7B-v0.3", 32_768, 7_248_023_552, 1e6, None),
    _digits("Qwen/Qwen2.5-0.5B", _QWEN25_SMALL, "bfloat16", 494_032_768),
    _digits("Qwen/Qwen2.5-7B", _QWEN25, "bfloat16", 7_615_616_512),
    _digits("Qwen/Qwen3-8B", _QWEN3, "bfloat16", 8_190_735_360),
    _gemma2("gemma-2-2b", 26, 2304, 8, 9216, 2_614_341_888),
    _gemma2("gemma-2-9b", 42, 3584, 16, 14336, 9_241_705_984),
    _digits("google/gemma-3-1b-pt", _GEMMA3, "bfloat16", 999_885_952, gated=True),
)  # fmt: skip
