"""JSON and text files written whole or not at all: first `<name>.part`, then renamed over the old file.

A reader sees the old file or the new one, never a half; a kill in between leaves a `.part` that the next write takes.
"""

import json
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with Unix line ends."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8", newline="\n")
    part.replace(path)


def write_json(path: Path, data: Any) -> None:
    """Write indented JSON; non-finite numbers are refused, since they are not JSON."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
