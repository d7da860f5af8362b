"""Operators, prompts, counterfactual pairs and their tokens. Knows nothing of torch."""
