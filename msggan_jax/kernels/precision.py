"""The precision of every product: the only file that chooses one.

TPUs multiply float32 as bfloat16 and recent GPUs as TF32, unless a product
states its precision. Here every product of float32 states the highest one. The
field `precision` can relax the 3x3 convolutions, and gives the activations
between them their type.
"""

import dataclasses

import jax
import jax.numpy as jnp

Products = jax.lax.Precision

TRUE_FLOAT32 = Products.HIGHEST
FAST = Products.DEFAULT  # what the accelerator does unless told otherwise


@dataclasses.dataclass(frozen=True)
class Precision:
  """How the 3x3 convolutions compute.

  Attributes:
    dtype: Of the activations; None: that of the kernels.
    products: Of the 3x3 convolutions' products, on accelerators.
  """

  dtype: jnp.dtype | None = None
  products: Products = TRUE_FLOAT32

  def products_for(self, kernel_size: int) -> Products:
    """Return the precision of a convolution's products."""
    return self.products if kernel_size == 3 else products_of(self.dtype)

  def cast(self, x: jax.Array) -> jax.Array:
    """Return x with the activations' dtype."""
    return x if self.dtype is None else x.astype(self.dtype)


FLOAT32 = Precision()
PRECISIONS = {
  "float32": FLOAT32,
  "float32_fast": Precision(products=FAST),
  # Products of two bfloat16 are exact in every mode.
  "bfloat16": Precision(dtype=jnp.dtype(jnp.bfloat16), products=FAST),
}


def products_of(dtype: jnp.dtype | None) -> Products:
  """Return the precision that does not round operands of a dtype."""
  return FAST if dtype == jnp.bfloat16 else TRUE_FLOAT32


def matmul(a: jax.Array, b: jax.Array) -> jax.Array:
  """Multiply matrices, as `a @ b`; float32 is never rounded before."""
  return jnp.matmul(a, b, precision=products_of(a.dtype))


def at_least_float32(x: jax.Array) -> jnp.dtype:
  """Return float64 for float64, else float32."""
  return x.dtype if x.dtype == jnp.float64 else jnp.dtype(jnp.float32)
