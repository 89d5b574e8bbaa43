"""Configuration files: a data set each, and presets."""
