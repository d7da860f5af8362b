"""One analysis over many checkpoints and models, on local processes, Ray or SLURM."""
