"""The modes of `msggan_jax.sample`: pictures of what a generator learned."""
