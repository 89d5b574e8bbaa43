"""3x3 convolutions, fast at every order of differentiation.

The convolution and its weight gradient are bilinear, and each is a derivative
of the other. Derivatives of any order, as in gradient penalties, stay within
the pair. CPUs use Winograd's form where it is faster, else XLA's convolution.
On TPUs, convolution and resampling are one operation, with fewer products, and
narrow levels are folded (`folded_convolution.py`).

`products` is the precision of float32 on accelerators; every derivative keeps
it. Winograd's form runs on CPUs only, which have one precision.
"""

import functools

import jax
import jax.numpy as jnp

from msggan_jax.models import folded, folded_convolution, winograd
from msggan_jax.models.folded_convolution import spread_rows
from msggan_jax.models.precision import TRUE_FLOAT32, Products
from msggan_jax.models.pyramid import downsample, upsample


def convolve_plain(
  x: jax.Array,
  kernel: jax.Array,
  products: Products = TRUE_FLOAT32,
  padding: str = "SAME",
) -> jax.Array:
  """Convolve with XLA; the reference of `convolve`.

  Args:
    x: (B, H, W, I).
    kernel: (k, k, I, O).
    products: Precision of float32 on accelerators.
    padding: "SAME" (zeros) or "VALID".

  Returns:
    (B, H, W, O); "VALID" reduces H and W by k - 1.
  """
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    window_strides=(1, 1),
    padding=padding,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    precision=products,
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(
  x: jax.Array, kernel: jax.Array, products: Products = TRUE_FLOAT32
) -> jax.Array:
  """Convolve with zero padding, faster than `convolve_plain`.

  Args:
    x: (B, H, W, I).
    kernel: (k, k, I, O), k odd.
    products: Precision of float32 on accelerators.

  Returns:
    (B, H, W, O).
  """
  plain = functools.partial(convolve_plain, products=products)
  if _winograd_pays(x, kernel.shape, smallest=32, narrowest=64):
    return jax.lax.platform_dependent(
      x, kernel, cpu=winograd.convolve, default=plain
    )
  return plain(x, kernel)


def _convolve_forward(x, kernel, products):
  return convolve(x, kernel, products), (x, kernel)


def _convolve_backward(products, residuals, y_bar):
  x, kernel = residuals
  x_bar = convolve(y_bar, _transposed(kernel), products)
  return x_bar, correlate(x, y_bar, kernel.shape[0], products)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def correlate(
  x: jax.Array,
  y: jax.Array,
  kernel_size: int,
  products: Products = TRUE_FLOAT32,
) -> jax.Array:
  """Return the weight gradient of `convolve`.

  Args:
    x: The convolution's input, (B, H, W, I).
    y: The cotangent of its output, (B, H, W, O).
    kernel_size: k, odd.
    products: Precision of float32 on accelerators.

  Returns:
    (k, k, I, O): at (i, j) the sum over B, H, W of y times x, shifted by
    (i, j) minus the kernel's center.
  """
  plain = functools.partial(
    _correlate_plain, kernel_size=kernel_size, products=products
  )
  shape = (kernel_size, kernel_size, x.shape[-1], y.shape[-1])
  if _winograd_pays(x, shape, smallest=16, narrowest=32):
    return jax.lax.platform_dependent(
      x, y, cpu=winograd.correlate, default=plain
    )
  return plain(x, y)


def _correlate_forward(x, y, kernel_size, products):
  return correlate(x, y, kernel_size, products), (x, y)


def _correlate_backward(kernel_size, products, residuals, kernel_bar):
  x, y = residuals
  x_bar = convolve(y, _transposed(kernel_bar), products)
  return x_bar, convolve(x, kernel_bar, products)


convolve.defvjp(_convolve_forward, _convolve_backward)
correlate.defvjp(_correlate_forward, _correlate_backward)


def _transposed(kernel: jax.Array) -> jax.Array:
  """Return the kernel of the transposed convolution (k odd, zero padding)."""
  return kernel[::-1, ::-1].swapaxes(2, 3)


def _correlate_plain(
  x: jax.Array, y: jax.Array, kernel_size: int, products: Products
) -> jax.Array:
  """Convolve x with y as the kernel; sum over the batch."""
  margin = kernel_size // 2
  return jax.lax.conv_general_dilated(
    x,
    y,
    window_strides=(1, 1),
    padding=[(margin, margin), (margin, margin)],
    dimension_numbers=("CHWN", "IHWO", "HWNC"),
    precision=products,
  )


def convolve_narrow(
  x: jax.Array, kernel: jax.Array, products: Products = TRUE_FLOAT32
) -> jax.Array:
  """Compute `convolve` for an image on a TPU.

  TPUs would pad its channels to 128 for each of the kernel's taps. Here the
  pixels that a pixel depends on become its channels, for one product.
  """
  size, _, _, out = kernel.shape
  margin = size // 2
  _, h, w, _ = x.shape
  x = jnp.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
  patches = [
    x[:, i : i + h, j : j + w] for i in range(size) for j in range(size)
  ]
  x = jnp.concatenate(patches, axis=-1)
  return convolve_plain(x, kernel.reshape(1, 1, -1, out), products)


def upsample_convolve_plain(
  x: jax.Array, kernel: jax.Array, products: Products = TRUE_FLOAT32
) -> jax.Array:
  """Upsample, then convolve; the reference of `upsample_convolve`."""
  return convolve(upsample(x), kernel, products)


def upsample_convolve(
  x: jax.Array,
  kernel: jax.Array,
  products: Products = TRUE_FLOAT32,
  fold: int = 1,
  shift: int = 0,
) -> jax.Array:
  """Upsample by nearest neighbour, then convolve with zero padding.

  Args:
    x: (B, H, W, I), of any fold.
    kernel: (3, 3, I, O).
    products: Precision of float32 on accelerators.
    fold: Fold of the result.
    shift: Shift of the result.

  Returns:
    (B, 2H, 2W, O), folded.
  """
  if fold > 1:
    return folded_convolution.upsample_convolve(
      x, kernel, products, fold=fold, shift=shift
    )
  x = folded.refold(x, 1)
  plain = functools.partial(upsample_convolve_plain, products=products)
  cpu = plain
  if _winograd_pays(x, kernel.shape, smallest=8, narrowest=32, largest=512):
    cpu = winograd.upsample_convolve
  return jax.lax.platform_dependent(
    x,
    kernel,
    cpu=cpu,
    tpu=functools.partial(upsample_convolve_dilated, products=products),
    default=plain,
  )


def upsample_convolve_dilated(
  x: jax.Array, kernel: jax.Array, products: Products = TRUE_FLOAT32
) -> jax.Array:
  """Compute `upsample_convolve` as one convolution of the dilated x.

  Both steps are a 4x4 kernel on x with zeros between its pixels. Only 2x2 of
  the kernel meet pixels: 4 products instead of 9. For it and its gradient, the
  TPU compiler counts 2.25 times fewer FLOPs and 13 to 29 % fewer bytes. On
  GPUs, dilated convolutions have been slow.
  """
  return jax.lax.conv_general_dilated(
    x,
    _spread(kernel),
    window_strides=(1, 1),
    padding=[(2, 2), (2, 2)],
    lhs_dilation=(2, 2),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    precision=products,
  )


def convolve_downsample_plain(
  x: jax.Array, kernel: jax.Array, products: Products = TRUE_FLOAT32
) -> jax.Array:
  """Convolve, then downsample; the reference of `convolve_downsample`."""
  return downsample(convolve(x, kernel, products))


def convolve_downsample(
  x: jax.Array, kernel: jax.Array, products: Products = TRUE_FLOAT32
) -> jax.Array:
  """Convolve with zero padding, then average 2x2 pixels.

  Args:
    x: (B, 2H, 2W, I), of any fold.
    kernel: (3, 3, I, O).
    products: Precision of float32 on accelerators.

  Returns:
    (B, H, W, O), of half the fold or plain.
  """
  if folded.fold_of(x) > 1:
    return folded_convolution.convolve_downsample(x, kernel, products)
  return jax.lax.platform_dependent(
    x,
    kernel,
    tpu=functools.partial(convolve_downsample_strided, products=products),
    default=functools.partial(convolve_downsample_plain, products=products),
  )


def convolve_downsample_strided(
  x: jax.Array, kernel: jax.Array, products: Products = TRUE_FLOAT32
) -> jax.Array:
  """Compute `convolve_downsample` as one 4x4 convolution of stride 2.

  An output takes 16 products instead of 36. So does Winograd's form, so CPUs
  gain nothing.
  """
  return jax.lax.conv_general_dilated(
    x,
    _spread(kernel) / 4,
    window_strides=(2, 2),
    padding=[(1, 1), (1, 1)],
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    precision=products,
  )


def _spread(kernel: jax.Array) -> jax.Array:
  """Convolve the kernel with 2x2 ones: (3, 3, I, O) to (4, 4, I, O)."""
  return spread_rows(spread_rows(kernel).swapaxes(0, 1)).swapaxes(0, 1)


def _winograd_pays(
  x: jax.Array,
  kernel_shape: tuple[int, ...],
  *,
  smallest: int,
  narrowest: int,
  largest: int = 64,
) -> bool:
  """Return whether Winograd's form is faster on CPUs, as measured.

  Args:
    x: Input of the convolution. bfloat16 would lose too much precision.
    kernel_shape: Shape of the kernel.
    smallest: Least side of the image, in pixels.
    narrowest: Least number of channels.
    largest: Largest side of the image, in pixels; larger ones exceed the cache.
  """
  _, height, width, _ = x.shape
  return (
    kernel_shape[:2] == (3, 3)
    and min(kernel_shape[2:]) >= narrowest
    and height == width
    and smallest <= width <= largest
    and x.dtype in (jnp.float32, jnp.float64)
  )
