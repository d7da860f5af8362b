"""Heuristics as data, their match with neurons' maps, the nulls behind a label, and ablations that could refute it."""
