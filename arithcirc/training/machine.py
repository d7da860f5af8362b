"""The machine a model was trained on, in general words, and a Markdown table: what data cards share."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch


@dataclass(frozen=True)
class Machine:
    """The machine in general words: no names, no paths."""

    processor: str
    cores: int
    memory_gb: int
    device: str
    threads: int

    @classmethod
    def this(cls, device: str, threads: int, processes: int = 1) -> "Machine":
        """The machine this runs on, as one of so many processes with so many threads each."""
        gpu = torch.cuda.get_device_name() if device == "cuda" else "cpu"
        gpu = f"{processes} x {gpu}" if device == "cuda" and processes > 1 else gpu
        memory = round(psutil.virtual_memory().total / 2**30)
        return cls(_processor(), os.cpu_count() or 1, memory, gpu, threads * processes)

    def __str__(self) -> str:
        device = "" if self.device == "cpu" else f", {self.device}"
        return f"{self.cores} cores, {self.processor}, {self.memory_gb} GB{device}; {self.threads} thread(s) used"


def _processor() -> str:
    """The processor's model as the system names it, else its instruction set."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine() or "unknown processor"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are numbers, aligned right."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
