"""Generate images from a run's newest checkpoint.

  python -m msggan_jax.sample --workdir=runs/demo --output=images --seeds=0-15

Writes OUTPUT/<res>x<res>/seed<N>.png and a grid of all seeds per scale.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from msggan_jax import cli

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.")
_OUTPUT = flags.DEFINE_string("output", None, "Where the images go.")
_SEEDS = flags.DEFINE_string(
  "seeds", "0-15", "Which images: numbers and ranges, 0-15,20."
)
_SCALES = flags.DEFINE_string(
  "scales", "", "Which resolutions, 64,256; by default the largest."
)
_STEP = flags.DEFINE_integer(
  "step", None, "Which checkpoint; by default the newest."
)
flags.mark_flags_as_required(["workdir", "output"])


def main(argv: Sequence[str]) -> None:
  """Sample as the flags say."""
  del argv
  seeds = parse_seeds(_SEEDS.value)
  # Here, so that --help and wrong flags answer at once.
  import jax
  import jax.numpy as jnp

  from msggan_jax import configuration, images, sampling

  config = configuration.load(_WORKDIR.value)
  available = configuration.connected_scales(config)
  scales = parse_scales(_SCALES.value, available)
  generator = sampling.load_generator(_WORKDIR.value, _STEP.value)

  # A seed's image does not depend on the other seeds.
  z = jnp.concatenate(
    [generator.sample_latents(jax.random.key(seed), 1) for seed in seeds]
  )
  pyramid = sampling.in_batches(generator, z, batch_size=16)
  output = Path(_OUTPUT.value)
  for resolution, scale in zip(available, pyramid, strict=True):
    if resolution not in scales:
      continue
    pixels = images.to_uint8(scale)
    name = f"{resolution}x{resolution}"
    for seed, image in zip(seeds, pixels, strict=True):
      images.save_png(image, output / name / f"seed{seed:04d}.png")
    images.save_png(images.grid(pixels), output / f"grid_{name}.png")
    print(f"{output / name}: {len(seeds)} images; {output}/grid_{name}.png")


def parse_seeds(text: str) -> list[int]:
  """Parse numbers and ranges, "0-15,20".

  Raises:
    ValueError: If the text is anything else.
  """
  seeds = []
  for part in text.split(","):
    first, dash, last = part.strip().partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()):
      raise ValueError(f"--seeds={text}: {part!r} is no number and no range")
    numbers = range(int(first), int(last or first) + 1)
    if not numbers:
      raise ValueError(f"--seeds={text}: the range {part!r} is empty")
    seeds.extend(numbers)
  return list(dict.fromkeys(seeds))


def parse_scales(text: str, available: tuple[int, ...]) -> set[int]:
  """Parse resolutions, "64,256"; empty: the largest.

  Raises:
    ValueError: If one is not available.
  """
  if not text:
    return {available[-1]}
  scales = {int(r) if r.strip().isdecimal() else r for r in text.split(",")}
  if not scales <= set(available):
    raise ValueError(
      f"--scales={text}: this generator has {', '.join(map(str, available))}"
    )
  return scales


if __name__ == "__main__":
  cli.run(main)
