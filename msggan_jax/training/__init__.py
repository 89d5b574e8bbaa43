"""A run: the loop, its records and its evaluation."""
