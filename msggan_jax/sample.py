"""Generate images from a run's newest checkpoint, or another one.

  python -m msggan_jax.sample --workdir=runs/demo --output=images --seeds=0-15
  python -m msggan_jax.sample --workdir=demo.safetensors --output=images

Writes OUTPUT/<res>x<res>/seed<N>.png and a grid of all seeds per scale.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from msggan_jax.runtime import cli

_WORKDIR = flags.DEFINE_string(
  "workdir", None, "The run's folder, or a file of msggan_jax.export."
)
_OUTPUT = flags.DEFINE_string("output", None, "Folder for the images.")
_SEEDS = flags.DEFINE_string(
  "seeds", "0-15", "Seeds of the images: numbers and ranges, 0-15,20."
)
_SCALES = flags.DEFINE_string(
  "scales", "", "Resolutions, such as 64,256; by default the largest."
)
_LABELS = flags.DEFINE_string(
  "labels",
  "",
  "Classes of a conditional run, 3 or 0-4,7, repeated over the seeds; by "
  "default all in turn.",
)
_TRUNCATION_PSI = flags.DEFINE_float(
  "truncation_psi", 1.0, "MSG-StyleGAN: below 1 less varied, more typical."
)
_STEP = flags.DEFINE_string(
  "step", "", "A checkpoint's step, or best; by default the newest."
)
_EMA_KIMG = flags.DEFINE_float(
  "ema_kimg",
  None,
  "Half-life of the moving average in thousands of images, for runs with "
  "config.ema_averages; by default the run's own.",
)
flags.mark_flags_as_required(["workdir", "output"])


def main(argv: Sequence[str]) -> None:
  """Write images and grids."""
  del argv
  seeds = parse_seeds(_SEEDS.value)
  step = cli.parse_step(_STEP.value)
  # Imported late, so that --help and bad flags return at once.
  import jax
  import jax.numpy as jnp

  from msggan_jax.data import pictures
  from msggan_jax.models.pyramid import connected_scales, to_uint8
  from msggan_jax.weights import trained

  generator = trained.load_generator(
    _WORKDIR.value, step, ema_kimg=_EMA_KIMG.value
  )
  available = connected_scales(generator.config)
  scales = parse_scales(_SCALES.value, available)
  num_classes = generator.config.num_classes
  labels = assign_labels(_LABELS.value, num_classes, len(seeds))

  # A seed's image does not depend on the other seeds.
  z = jnp.concatenate(
    [generator.sample_latents(jax.random.key(seed), 1) for seed in seeds]
  )
  pyramid = trained.in_batches(
    generator,
    z,
    batch_size=16,
    labels=labels,
    truncation_psi=_TRUNCATION_PSI.value,
  )
  output = Path(_OUTPUT.value)
  for resolution, scale in zip(available, pyramid, strict=True):
    if resolution not in scales:
      continue
    pixels = to_uint8(scale)
    name = f"{resolution}x{resolution}"
    for seed, image in zip(seeds, pixels, strict=True):
      pictures.save_png(image, output / name / f"seed{seed:04d}.png")
    pictures.save_png(pictures.grid(pixels), output / f"grid_{name}.png")
    print(f"{output / name}: {len(seeds)} images; {output}/grid_{name}.png")


def parse_seeds(text: str) -> list[int]:
  """Parse numbers and ranges, "0-15,20", without repetitions.

  Raises:
    ValueError: If the text is anything else.
  """
  return list(dict.fromkeys(parse_numbers("seeds", text)))


def parse_numbers(flag: str, text: str) -> list[int]:
  """Parse a flag's numbers and ranges, "0-15,20".

  Raises:
    ValueError: If the text is anything else.
  """
  all_numbers = []
  for part in text.split(","):
    first, dash, last = part.strip().partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()):
      raise ValueError(
        f"--{flag}={text}: {part!r} is neither a number nor a range"
      )
    numbers = range(int(first), int(last or first) + 1)
    if not numbers:
      raise ValueError(f"--{flag}={text}: the range {part!r} is empty")
    all_numbers.extend(numbers)
  return all_numbers


def assign_labels(text: str, num_classes: int, num: int) -> list[int] | None:
  """Return each seed's class: the flag's classes, or all, in turn.

  Args:
    text: The value of --labels.
    num_classes: Classes of the run; 0: unconditional.
    num: Number of seeds.

  Returns:
    `num` classes; None for an unconditional run.

  Raises:
    ValueError: If the run has no such class, or none at all.
  """
  if not num_classes:
    if text:
      raise ValueError(f"--labels={text}: this run has no classes")
    return None
  classes = parse_numbers("labels", text) if text else range(num_classes)
  if max(classes) >= num_classes:
    raise ValueError(
      f"--labels={text}: this run has classes 0 to {num_classes - 1}"
    )
  return [classes[i % len(classes)] for i in range(num)]


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
