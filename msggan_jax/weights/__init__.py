"""Weights on disk: checkpoints, workdirs, files to share, files of others."""
