"""A workdir: configuration, checkpoints, averages, trained networks."""
