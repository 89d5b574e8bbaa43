"""The convolution layer of both networks, plain or folded."""

import functools

import jax
import jax.numpy as jnp

from msggan_jax.models import folded, folded_convolution
from msggan_jax.models.convolution import (
  convolve,
  convolve_downsample,
  convolve_plain,
  upsample_convolve,
)
from msggan_jax.models.layers import Layer
from msggan_jax.models.precision import (
  FLOAT32,
  TRUE_FLOAT32,
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
    kernel_size: Side of the kernel, in pixels.
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
    kernel_size: int,
    *,
    padding: str = "SAME",
    fold: int = 1,
    shifts: tuple[int, int] = (0, 0),
    precision: Precision = FLOAT32,
    **options,
  ):
    super().__init__(
      (kernel_size, kernel_size, in_channels, out_channels),
      fan_in=kernel_size * kernel_size * in_channels,
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
      y += folded_convolution.convolve_narrow(
        self._refolded(image).astype(x.dtype),
        of_image,
        products,
        fold=self.fold,
        shifts=self.shifts,
      )
    if value is not None:
      y = self._add_constant(y, value, of_value)
    return self._finish(y).astype(x.dtype)

  def of_image(
    self, image: jax.Array, from_rgb: "Conv", value: jax.Array | None
  ) -> jax.Array:
    """Convolve `from_rgb(image)` and a channel that is constant, as one.

    The kernels are multiplied instead of the features, of which there are many
    more than an image has channels.

    Args:
      image: (B, H, W, I), of any fold.
      from_rgb: A 1x1 convolution.
      value: (B, 1, 1, 1); None: no such channel.
    """
    kernel = self.scaled_kernel()
    of_x, of_value = jnp.split(kernel, [from_rgb.kernel.shape[3]], axis=2)
    compose = functools.partial(jnp.einsum, precision=TRUE_FLOAT32)
    composed = compose("ic,hwco->hwio", from_rgb.scaled_kernel()[0, 0], of_x)
    dtype = self.dtype or self.kernel.dtype
    y = folded_convolution.convolve_narrow(
      self._refolded(image).astype(dtype),
      composed.astype(dtype),
      self.products,
      fold=self.fold,
      shifts=self.shifts,
    )
    if from_rgb.bias is not None:
      bias = from_rgb.bias[...] * from_rgb.bias_scale
      of_ones = compose("c,hwco->hwo", bias, of_x)[:, :, None]
      y = self._add_constant(y, jnp.ones((1, 1, 1, 1), y.dtype), of_ones)
    if value is not None:
      y = self._add_constant(y, value, of_value)
    return self._finish(y).astype(dtype)

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

  def _add_constant(self, y, value: jax.Array, kernel: jax.Array) -> jax.Array:
    """Add the convolution of a constant channel to y; float32 or float64."""
    # As the bias' gradient, those of the value and the kernel are long sums.
    dtype = at_least_float32(y)
    height = y.shape[1]
    ones = folded_convolution.convolve_ones(
      kernel.astype(dtype),
      height,
      height // self.fold,
      fold=self.fold,
      shift=self.shifts[1],
    )
    return y.astype(dtype) + value.astype(dtype) * ones

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
