"""Weight files of the public versions of MSG-GAN."""

from msggan_jax.weights.foreign.tf_pickle import read_tf_pickle
from msggan_jax.weights.foreign.torch_file import read_torch

__all__ = ["read_tf_pickle", "read_torch"]
