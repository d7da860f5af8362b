"""Figures and words of an influence study: which documents drive an answer, or built a neuron's rule."""
