"""The paper: networks in, one training step out; no files, clocks or flags."""
