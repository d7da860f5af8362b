"""What the manifest says about the model, its tokens, and the time and memory of the stages, in the page's words."""

from typing import Any

from arithcirc.viz.theme import number

_TEXT = "text"
_FEW = 3
"""So many tokens that never change are shown one by one; more in a row are counted."""


def model_facts(facts: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """What is known about the model: the facts, those under `model` among them, and what was compared."""
    nested = facts.get("model")
    return {**facts, **(nested if isinstance(nested, dict) else {}), **config.get("model", {})}


def headline(model: dict[str, Any]) -> str:
    """Architecture, sizes, precision and device in one line, as far as they are recorded."""
    parts = [str(model.get("architecture") or "decoder language model")]
    if model.get("n_layers"):
        parts.append(f"{model['n_layers']} layers × {model.get('n_heads')} heads")
    named = {
        "n_kv_heads": "{:,} key-value heads", "d_model": "width {:,}", "d_mlp": "MLP width {:,}",
        "n_params": "{:,} parameters", "sliding_window": "sliding window of {:,} keys", "softcap": "soft-cap {:g}",
    }  # fmt: skip
    for key, text in named.items():
        if model.get(key):
            parts.append(text.format(model[key]))
        elif key in model and key in ("sliding_window", "softcap"):
            parts.append(f"no {key.replace('_', ' ').replace('softcap', 'soft-cap')}")
    if model.get("dtype"):
        parts.append(f"{model['dtype']}{' on ' + str(model['device']) if model.get('device') else ''}")
    if model.get("single_token_limit"):
        parts.append(f"numbers 0–{model['single_token_limit']} are single tokens")
    return f"{', '.join(parts)}."


def token_line(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """`(token, what stands there)` for every position of an example prompt and its answer; empty if not recorded."""
    tokens, bos = facts.get("tokens"), facts.get("bos")
    if not isinstance(tokens, dict):
        return []
    rows: list[tuple[str, str]] = []
    fixed: list[tuple[str, str]] = []
    for key, said in sorted(tokens.items(), key=lambda item: int(item[0].split()[0])):
        position = key.split(maxsplit=1)[1]
        token, among, rest = str(said).partition(", one of ")
        if position == _TEXT:
            fixed.append((token, _TEXT))
            continue
        rows += fixed if len(fixed) <= _FEW else [("...", f"{len(fixed)} tokens of text")]
        fixed = []
        if position == "bos" and isinstance(bos, dict):
            position += f", added by {'us' if bos.get('added_by') == 'us' else 'the tokenizer'}"
        rows.append((token, f"{position}{', one of ' + rest if among else ''}"))
    return rows + fixed


def stage_rows(stages: dict[str, dict[str, Any]], order: list[str]) -> list[dict[str, str]]:
    """Per stage, in the order they ran: seconds, rows in flight, predicted and measured memory."""
    place = {name: i for i, name in enumerate(order)}
    ran = sorted(stages.items(), key=lambda s: (str(s[1].get("finished", "")), place.get(s[0], len(place))))
    rows = []
    for name, record in ran:
        memory = record.get("memory") or {}
        rows.append(
            {
                "stage": name,
                "seconds": number(record.get("seconds"), 1),
                "batch": f"{record['batch_size']:,}" if record.get("batch_size") else "–",
                "predicted": size(memory.get("predicted")),
                "measured": size(memory.get("measured")),
            }
        )
    return rows


def size(count: Any) -> str:
    """Bytes in kB, MB or GB, a dash for None."""
    if count is None:
        return "–"
    if count < 1e6:
        return f"{max(count / 1e3, 1):.0f} kB"
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
