"""A configuration: its fields, checks and automatic values."""
