"""Presets: networks, loss and optimizer, without a data set."""
