"""The networks; `networks.py` makes them of a configuration."""
