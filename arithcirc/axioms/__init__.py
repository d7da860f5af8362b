"""Axiomatic training: teach a small transformer a causal axiom, and see how far it generalises (arXiv 2407.07612)."""
