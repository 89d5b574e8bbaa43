"""Weight files of the public versions of MSG-GAN."""

from msggan_jax.sharing.foreign.torch_file import read_torch

__all__ = ["read_torch"]
