"""Influence on a mechanism instead of a loss: which documents built a neuron's rule."""
