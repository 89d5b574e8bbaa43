"""Weight files of the public versions of MSG-GAN."""

from msggan_jax.sharing.foreign.tf_pickle import read_tf_pickle
from msggan_jax.sharing.foreign.torch_file import read_torch

__all__ = ["read_tf_pickle", "read_torch"]
