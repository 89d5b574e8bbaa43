"""The networks' modules; `msggan_jax.networks` makes them of a config."""
