r"""MSG-GAN in one file: the paper's MSG-ProGAN, trained on a folder of images.

Karnewar & Wang, "MSG-GAN: Multi-Scale Gradients for Generative Adversarial
Networks", CVPR 2020; tables, equations and sections are theirs. ProGAN is
Karras et al. 2018. It needs numpy, jax, optax and Pillow. On drawings of cats
(`pip install robohash`), a quarter of an hour on two CPU cores:

  python examples/draw_cats.py --output=runs/cats
  python examples/msg_gan.py --images=runs/cats --resolution=32 --kimg=24 \
    --latent_size=64 --max_channels=48 --batch_size=16 --ema_kimg=1

G makes an image at every scale and D sees them all, so gradients reach every
scale of G. In comments: B examples, H x W pixels, C channels, S scales. A
pyramid is a tuple of S arrays, (B, H, W, 3) in [-1, 1], 4x4 first.
Images are not mirrored; the package mirrors them by default.
"""

import argparse
import functools
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image, ImageOps

SCALES = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
LRELU_GAIN = math.sqrt(2)  # of layers before a leaky ReLU; 1 for linear ones
STDDEV_GROUP = 4  # neighbors in a batch
EPSILON = 1e-8
PENALTY_WEIGHT = 10
DRIFT_WEIGHT = 0.001  # ProGAN, appendix A.1
RMSPROP = {"decay": 0.99, "eps": EPSILON, "eps_in_sqrt": False}  # as PyTorch's
leaky_relu = functools.partial(jax.nn.leaky_relu, negative_slope=0.2)


def scaled(kernel, gain):
  """Equalize the learning rate: gain / sqrt(fan_in) (ProGAN, section 4.1)."""
  return kernel * (gain / math.sqrt(math.prod(kernel.shape[:-1])))


def conv(layer, x, gain=LRELU_GAIN, padding="SAME"):
  """Convolve x, (B, H, W, C), with a kernel, (h, w, C, C of the result)."""
  kernel = scaled(layer["kernel"], gain)
  y = jax.lax.conv_general_dilated(
    x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
  )
  return y + layer["bias"]


def pixel_norm(x):
  """Normalize each pixel's features to unit RMS (ProGAN, section 4.2)."""
  return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + EPSILON)


def upsample(x):  # (B, H, W, C) to (B, 2H, 2W, C)
  return x.repeat(2, axis=1).repeat(2, axis=2)


def downsample(x):  # (B, H, W, C) to (B, H/2, W/2, C)
  b, h, w, c = x.shape
  return x.reshape(b, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))


def minibatch_stddev(x):
  """Append one channel: how much the group varies (ProGAN, section 3)."""
  b, h, w, c = x.shape
  groups = x.reshape(b // STDDEV_GROUP, STDDEV_GROUP, h, w, c)
  stddev = jnp.sqrt(groups.var(axis=1) + EPSILON)  # (groups, H, W, C)
  stddev = stddev.mean(axis=(1, 2, 3)).repeat(STDDEV_GROUP)  # (B,)
  channel = jnp.broadcast_to(stddev[:, None, None, None], (b, h, w, 1))
  return jnp.concatenate([x, channel], axis=-1)


def init_params(rng, widths, latent_size):
  """Draw G's and D's parameters; `widths` maps each scale to its channels."""

  def layer(*shape):  # (..., inputs, outputs): N(0, 1) and a bias of 0
    kernel = np.float32(rng.normal(size=shape))
    return {"kernel": kernel, "bias": np.zeros(shape[-1], np.float32)}

  top = max(widths)
  g, d = {}, {f"from_rgb_{top}x{top}": layer(1, 1, 3, widths[top])}
  for r, c in widths.items():
    below = widths.get(r // 2)
    joined = c + (r != top) * 3 + 1  # features, image, stddev
    g[f"block_{r}x{r}"] = {
      "conv_0": layer(3, 3, below, c) if below else layer(latent_size, 4, 4, c),
      "conv_1": layer(3, 3, c, c),
    }
    g[f"to_rgb_{r}x{r}"] = layer(1, 1, c, 3)
    d[f"block_{r}x{r}"] = {
      "conv_0": layer(3, 3, joined, c),
      "conv_1": layer(3, 3, c, below) if below else layer(4, 4, c, c),
    }
  d["score"] = layer(widths[4], 1)
  return g, d


def scales_of(params):
  return [r for r in SCALES if f"block_{r}x{r}" in params]


def generate(params, z):
  """Map latents, (B, latent_size), to a pyramid (Table 6)."""
  z = z / jnp.sqrt(jnp.square(z).mean(-1, keepdims=True))  # on a hypersphere
  pyramid = []
  for r in scales_of(params):
    block = params[f"block_{r}x{r}"]
    if r == 4:  # z @ kernel: fan_in is latent_size, in scaled() 16 times that
      kernel = scaled(block["conv_0"]["kernel"], 4 * LRELU_GAIN)
      x = jnp.einsum("bl,lhwc->bhwc", z, kernel) + block["conv_0"]["bias"]
      x = leaky_relu(x)
    else:
      x = pixel_norm(leaky_relu(conv(block["conv_0"], upsample(x))))
    x = pixel_norm(leaky_relu(conv(block["conv_1"], x)))
    pyramid.append(conv(params[f"to_rgb_{r}x{r}"], x, gain=1))
  return tuple(pyramid)


def discriminate(params, pyramid):
  """Map a pyramid to scores, (B,), high for reals (Table 7)."""
  scales = scales_of(params)
  top = scales[-1]
  x = conv(params[f"from_rgb_{top}x{top}"], pyramid[-1], gain=1)
  for r, image in zip(reversed(scales), reversed(pyramid), strict=True):
    block = params[f"block_{r}x{r}"]
    if r != top:
      x = jnp.concatenate([image, x], axis=-1)  # phi_simple (eq. 11)
    x = leaky_relu(conv(block["conv_0"], minibatch_stddev(x)))
    if r != 4:
      x = downsample(leaky_relu(conv(block["conv_1"], x)))
  x = leaky_relu(conv(block["conv_1"], x, padding="VALID"))  # (B, 1, 1, C)
  score = params["score"]
  return (x[:, 0, 0] @ scaled(score["kernel"], 1) + score["bias"])[:, 0]


def make_pyramid(images, num_scales):
  """Average uint8 images, (B, H, W, 3), down to 4x4 (section 3)."""
  pyramid = [images.astype(float) / 127.5 - 1]  # float32, float64 with x64
  while len(pyramid) < num_scales:
    pyramid.append(downsample(pyramid[-1]))
  return tuple(reversed(pyramid))


def gradient_penalty(d_params, reals, fakes, epsilon):
  """WGAN-GP: "the average of the penalties over each input" (section 3.2)."""
  # The scales are independent inputs, each with its norm; they share epsilon.
  share = epsilon[:, None, None, None]  # of the reals, in [0, 1]
  mixed = jax.tree.map(lambda a, b: share * a + (1 - share) * b, reals, fakes)
  gradients = jax.grad(lambda x: discriminate(d_params, x).sum())(mixed)
  squares = [jnp.square(g).sum(axis=(1, 2, 3)) for g in gradients]
  norms = jnp.sqrt(jnp.maximum(jnp.stack(squares), 1e-30))  # sqrt'(0) is inf
  return jnp.square(norms - 1).mean()  # (S, B) to ()


def d_loss(d_params, reals, fakes, epsilon):
  """E D(fakes) - E D(reals) + 0.001 E D(reals)^2 + 10 penalty."""
  real, fake = (discriminate(d_params, x) for x in (reals, fakes))  # (B,)
  penalty = gradient_penalty(d_params, reals, fakes, epsilon)
  loss = fake.mean() - real.mean() + DRIFT_WEIGHT * jnp.square(real).mean()
  return loss + PENALTY_WEIGHT * penalty, (loss, penalty)


def g_loss(g_params, d_params, z):
  return -discriminate(d_params, generate(g_params, z)).mean()


def init_state(g_params, d_params, optimizer):
  return {
    "g_params": g_params,
    "d_params": d_params,
    "ema_params": jax.tree.map(jnp.copy, g_params),  # to draw with; not aliased
    "g_opt_state": optimizer.init(g_params),
    "d_opt_state": optimizer.init(d_params),
  }


def train_step(state, images, z, epsilon, *, optimizer, ema_decay):
  """Update D, then G with the new D, then G's moving average.

  Images are uint8, (B, R, R, 3), z is (B, latent_size), epsilon (B,).
  """
  state = dict(state)

  def update(name, grads):
    params, opt_state = f"{name}_params", f"{name}_opt_state"
    updates, state[opt_state] = optimizer.update(grads, state[opt_state])
    state[params] = optax.apply_updates(state[params], updates)

  reals = make_pyramid(images, len(scales_of(state["g_params"])))
  fakes = generate(state["g_params"], z)  # no gradient; G's update reuses z
  grads, (loss, penalty) = jax.grad(d_loss, has_aux=True)(
    state["d_params"], reals, fakes, epsilon
  )
  update("d", grads)
  update("g", jax.grad(g_loss)(state["g_params"], state["d_params"], z))
  state["ema_params"] = optax.incremental_update(
    state["g_params"], state["ema_params"], 1 - ema_decay
  )
  return state, {"d_loss": loss, "gradient_penalty": penalty}


def load_images(folder, resolution):
  """Return a folder's images, cropped and resized: uint8, (N, R, R, 3)."""
  kinds = Image.registered_extensions()
  paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in kinds)
  if not paths:
    raise ValueError(f"--images={folder} has no images; give one with images")
  images = np.empty((len(paths), resolution, resolution, 3), np.uint8)
  for i, path in enumerate(paths):
    try:
      with ImageOps.exif_transpose(Image.open(path)) as file:
        images[i] = ImageOps.fit(file.convert("RGB"), images.shape[1:3])
    except (OSError, ValueError, Image.DecompressionBombError) as error:
      raise ValueError(f"{path} is unusable, remove it: {error}") from error
  return images


def save_grids(pyramid, folder, kimg):
  """Write an 8x8 grid per scale, enlarged to the largest scale's size."""
  side = 8 * len(pyramid[-1][0])
  for images in jax.device_get(pyramid):
    r = images.shape[1]
    pixels = np.clip(np.rint((images + 1) * 127.5), 0, 255).astype(np.uint8)
    grid = pixels.reshape(8, 8, r, r, 3).swapaxes(1, 2).reshape(8 * r, 8 * r, 3)
    grid = Image.fromarray(grid).resize((side, side), Image.Resampling.NEAREST)
    grid.save(folder / f"{kimg:07.2f}kimg_{r}x{r}.png")


def train(args):
  images = load_images(args.images, args.resolution)
  args.output.mkdir(parents=True, exist_ok=True)
  rng = np.random.default_rng(args.seed)
  scales = [r for r in SCALES if r <= args.resolution]
  widths = {r: min(16384 // r, args.max_channels) for r in scales}
  optimizer = optax.rmsprop(args.learning_rate, **RMSPROP)
  params = jax.device_put(init_params(rng, widths, args.latent_size))
  state = init_state(*params, optimizer)
  ema_decay = 0.5 ** (args.batch_size / (1000 * args.ema_kimg))  # a half-life
  step = functools.partial(train_step, optimizer=optimizer, ema_decay=ema_decay)
  step, draw = jax.jit(step, donate_argnums=0), jax.jit(generate)
  grid_z = np.float32(rng.normal(size=(64, args.latent_size)))
  steps = int(1000 * args.kimg / args.batch_size)
  interval = max(1, int(1000 * args.sample_kimg / args.batch_size))
  for i in range(1, steps + 1):
    batch = images[rng.integers(len(images), size=args.batch_size)]
    z = np.float32(rng.normal(size=(args.batch_size, args.latent_size)))
    epsilon = np.float32(rng.uniform(size=args.batch_size))
    state, metrics = step(state, batch, z, epsilon)
    if i % interval == 0 or i == steps:
      kimg = i * args.batch_size / 1000
      values = (f"{name} {value:.3g}" for name, value in metrics.items())
      print(f"{kimg:.2f} kimg", *values, sep=", ", flush=True)
      save_grids(draw(state["ema_params"], grid_z), args.output, kimg)
  weights = {
    jax.tree_util.keystr(path, separator=".", simple=True): x
    for path, x in jax.tree.leaves_with_path(state["ema_params"])
  }
  np.savez(args.output / "generator.npz", **weights)


def main():
  options = {
    "resolution": (32, "side of the largest images: 8, 16, ... or 1024"),
    "latent_size": (512, "length of z"),
    "max_channels": (512, "channels at resolution r: 16384 / r, at most this"),
    "batch_size": (32, "images a step, a multiple of 4"),
    "kimg": (1000.0, "length, in thousands of images shown"),
    "sample_kimg": (1.0, "thousands of images between grids"),
    "ema_kimg": (10.0, "half-life of G's moving average"),
    "learning_rate": (0.003, "of G and D (section 4)"),
    "seed": (1, "of all random numbers"),
  }
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--images", type=pathlib.Path, required=True)
  parser.add_argument("--output", type=pathlib.Path, default="runs/msg_gan")
  for name, (default, help) in options.items():
    kind, help = type(default), f"{help} (default: {default})"
    parser.add_argument(f"--{name}", type=kind, default=default, help=help)
  args = parser.parse_args()
  try:
    for name in options:
      if getattr(args, name) <= 0 and name != "seed":
        raise ValueError(f"--{name}={getattr(args, name)}; give more than 0")
    if args.resolution not in SCALES[1:]:
      raise ValueError(f"--resolution={args.resolution}; give 8, 16, ... 1024")
    if args.batch_size % STDDEV_GROUP:
      raise ValueError(f"--batch_size={args.batch_size}; give a multiple of 4")
    if 1000 * args.kimg < args.batch_size:
      raise ValueError(f"--kimg={args.kimg} is less than a batch; give more")
    train(args)
  except ValueError as error:
    parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
  main()
