"""Figures and words about a sweep: how circuits, neurons and heuristics come about over training steps."""
