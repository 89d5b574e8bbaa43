"""The convolution layer of both networks, plain or folded."""

import jax
import jax.numpy as jnp

from msggan_jax.models import folded, folded_convolution
from msggan_jax.models.convolution import (
  convolve,
  convolve_downsample,
  convolve_narrow,
  convolve_plain,
  upsample_convolve,
)
from msggan_jax.models.layers import Layer
from msggan_jax.models.precision import (
  FLOAT32,
  Precision,
  Products,
  at_least_float32,
)
from msggan_jax.models.pyramid import upsample


class Conv(Layer):
  """Convolution of stride 1.

  Args:
    in_channels: C of the input.
    out_channels: C of the output.
    kernel_size: Side of the kernel, or its height and width, in pixels.
    padding: "SAME" (zeros) or "VALID".
    fold: Fold of its level, see `folded`. Inputs of another are refolded.
    shifts: Of input and output, see `folded`.
    precision: Dtype of input and output and, of a 3x3 kernel, the products.
    **options: Options of `Layer`.
  """

  def __init__(
    self,
    in_channels: int,
    out_channels: int,
    kernel_size: int | tuple[int, int],
    *,
    padding: str = "SAME",
    fold: int = 1,
    shifts: tuple[int, int] = (0, 0),
    precision: Precision = FLOAT32,
    **options,
  ):
    square = isinstance(kernel_size, int)
    height, width = (kernel_size,) * 2 if square else kernel_size
    super().__init__(
      (height, width, in_channels, out_channels),
      fan_in=height * width * in_channels,
      out_channels=out_channels,
      **options,
    )
    self.padding = padding
    self.fold = fold
    self.shifts = shifts
    self.dtype = precision.dtype
    self.products = precision.products_for(kernel_size)
    self.plain = False  # True: one form on all platforms, for export

  def __call__(self, x: jax.Array) -> jax.Array:
    """Convolve x, (B, H, W, in_channels), of any fold if not shifted."""
    x, kernel, products = self._operands(self._refolded(x))
    if self.plain or self.padding == "VALID":
      return self.add_bias(convolve_plain(x, kernel, products, self.padding))
    return self._finish(self._convolve(x, kernel, products))

  def of_parts(
    self, image: jax.Array | None, x: jax.Array, value: jax.Array | None
  ) -> jax.Array:
    """Convolve an image's channels, x and a channel that is constant.

    So x needs no channel more than fill a TPU's lanes. The convolution of the
    constant channel is the value times that of ones.

    Args:
      image: (B, H, W, I), of any fold; None: no such channels.
      x: (B, H, W, C), of any fold.
      value: (B, 1, 1, 1); None: no such channel.
    """
    x, kernel, products = self._operands(self._refolded(x))
    first = kernel.shape[2] - (x.shape[3] // self.fold + (value is not None))
    of_image, of_x, of_value = jnp.split(
      kernel, [first, first + x.shape[3] // self.fold], axis=2
    )
    y = self._convolve(x, of_x, products)
    if image is not None:
      image = self._refolded(image).astype(x.dtype)
      narrow = convolve_narrow if self.fold == 1 else self._convolve
      y += narrow(image, of_image, products)
    if value is None:
      return self._finish(y)
    # As the bias' gradient, those of the value and the kernel are long sums.
    y32 = y.astype(at_least_float32(y))
    ones = folded_convolution.convolve_ones(
      of_value.astype(y32.dtype),
      *x.shape[1:3],
      fold=self.fold,
      shift=self.shifts[1],
    )
    return self._finish(y32 + value * ones).astype(y.dtype)

  def after_upsampling(self, x: jax.Array) -> jax.Array:
    """Upsample x, (B, H, W, in_channels), of any fold, then convolve."""
    x, kernel, products = self._operands(x)
    if self.plain:
      return self.add_bias(convolve_plain(upsample(x), kernel, products))
    return self._finish(
      upsample_convolve(x, kernel, products, self.fold, self.shifts[1])
    )

  def before_downsampling(self, x: jax.Array) -> jax.Array:
    """Convolve x, (B, H, W, in_channels), of any fold, then downsample."""
    y = convolve_downsample(*self._operands(self._refolded(x)))
    return self.add_bias(y, max(1, self.fold // 2))

  def _refolded(self, x: jax.Array) -> jax.Array:
    return x if self.shifts[0] else folded.refold(x, self.fold)

  def _convolve(self, x, kernel, products: Products) -> jax.Array:
    if self.fold == 1:
      return convolve(x, kernel, products)
    return folded_convolution.convolve(
      x, kernel, products, self.fold, self.shifts
    )

  def _finish(self, y: jax.Array) -> jax.Array:
    y = self.add_bias(y, self.fold)
    return folded.without_outside(y, self.fold) if self.shifts[1] else y

  def _operands(self, x: jax.Array) -> tuple[jax.Array, jax.Array, Products]:
    dtype = self.dtype or self.kernel.dtype
    kernel = self.scaled_kernel().astype(dtype)
    return x.astype(dtype), kernel, self.products
