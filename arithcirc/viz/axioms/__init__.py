"""Figures and words about models that learned a causal axiom: how far they generalise, and what they compute."""
