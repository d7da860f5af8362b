"""The five findings of Ruis et al. (arXiv 2411.12580), and one on mechanisms, each beside its base rate."""
