"""A page about runs: records, charts, pictures, a verdict; without JAX."""
