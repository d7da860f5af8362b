"""The five findings of Ruis et al. (arXiv 2411.12580) from the scores of a study, each beside its base rate."""
