"""The networks; `networks.py` builds them from a configuration."""
