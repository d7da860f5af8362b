"""What is measured on a model: metrics, answers, mean activations, ablations."""
