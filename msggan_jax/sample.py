r"""Generate images and pictures from a run's newest checkpoint, or another one.

  python -m msggan_jax.sample --workdir=runs/demo --output=images --seeds=0-15
  python -m msggan_jax.sample --workdir=cats --output=images \
    --mode=multiscale

Modes: grid writes OUTPUT/<res>x<res>/seed<N>.png and a grid of all seeds per
scale. multiscale, nearest and project show one generator's scales, the nearest
training images and the latent of --image; truncation, style_mix and noise show
what the styles of MSG-StyleGAN do; interpolate and training write videos. See
docs/sampling.md.
"""

import importlib
import math
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from msggan_jax.runtime import cli

# Mode -> module of `sampling` with a function of this name, and the flags that
# are its arguments beside the job.
_MODES = {
  "grid": ("grids", "format"),
  "multiscale": ("grids",),
  "truncation": ("grids", "psis"),
  "style_mix": ("grids", "fine_seeds", "crossover"),
  "noise": ("grids", "draws"),
  "nearest": tuple(
    "nearest neighbors max_reals workdir data_dir inception extractor".split()
  ),
  "project": ("projection", "image", "iterations"),
  "interpolate": ("videos", "frames"),
  "training": ("videos", "workdir", "frames"),
}

# Flags that all modes but these use; `training` shows the run's own moving
# average at all steps.
_UNUSED = {
  "training": ("ema_kimg", "step"),
  "truncation": ("truncation_psi",),
  "project": ("truncation_psi", "scales", "seeds"),
  "nearest": ("scales",),
}
_MOST_CLASSES = 20  # in an error
_MOST_NUMBERS = 10**7

_WORKDIR = flags.DEFINE_string(
  "workdir",
  None,
  "The run's folder, a file of msggan_jax.export, or a released generator: "
  "cats.",
)
_OUTPUT = flags.DEFINE_string("output", None, "Folder for the images.")
_MODE = flags.DEFINE_enum("mode", "grid", list(_MODES), "Kind of pictures.")
_SEEDS = flags.DEFINE_string(
  "seeds",
  "",
  "Seeds of the images: numbers and ranges, 0-15,20; by default 0-15, and 0-7 "
  "in other modes than grid.",
)
_SCALES = flags.DEFINE_string(
  "scales",
  "",
  "Resolutions, such as 64,256; by default the largest, and all for "
  "multiscale.",
)
_LABELS = flags.DEFINE_string(
  "labels",
  "",
  "Classes of a conditional run, numbers or names such as 0-4,7 or cat,dog, "
  "repeated over the seeds; by default all in turn.",
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
_BATCH_SIZE = flags.DEFINE_integer(
  "batch_size", 16, "Images in a batch; less needs less memory.", lower_bound=1
)
_BANDS = flags.DEFINE_string(
  "bands",
  "",
  "Channels of the pictures, one, or three as RGB: 3,2,1; by default the run's "
  "config.bands.",
)
flags.DEFINE_enum(
  "format",
  "png",
  ["png", "png16", "tiff", "npy"],
  "grid: of the images; npy and tiff have the values of the run's source, "
  "png16 has 16 bits from the lowest to the highest of them.",
)
flags.DEFINE_list(
  "psis", "1,0.7,0.5,0.3,0,-0.5,-1", "truncation: psi of each column."
)
flags.DEFINE_string("fine_seeds", "100-105", "style_mix: seeds of the columns.")
flags.DEFINE_integer(
  "crossover", 16, "style_mix: first resolution with the columns' styles."
)
flags.DEFINE_integer("draws", 32, "noise: draws for each seed.")
flags.DEFINE_integer("neighbors", 5, "nearest: training images for each seed.")
flags.DEFINE_integer(
  "max_reals",
  0,
  "nearest: training images to search, a random sample; 0: all.",
  lower_bound=0,
)
flags.DEFINE_string(
  "data_dir",
  "data",
  "nearest: folder of prepared sets; the run's set is prepared there if "
  "necessary.",
)
flags.DEFINE_string(
  "inception",
  "",
  "nearest: Inception's weights, pt_inception-2015-12-05-6726825d.pth; by "
  "default EfficientNet-Lite0 finds the neighbors.",
)
flags.DEFINE_string(
  "extractor", "", "nearest: module:function of your own instead."
)
flags.DEFINE_integer(
  "frames",
  None,
  "interpolate: frames from seed to seed, by default 60; training: frames for "
  "each checkpoint, by default 15.",
  lower_bound=1,
)
flags.DEFINE_string("image", "", "project: the image file.")
flags.DEFINE_integer(
  "iterations", 500, "project: steps of the search.", lower_bound=1
)
flags.mark_flags_as_required(["workdir", "output"])


def main() -> None:
  """Write the pictures of a mode."""
  mode = _MODE.value
  options = parse_options(mode)
  default_seeds = "0-15" if mode == "grid" else "0-7"
  seeds = parse_numbers("seeds", _SEEDS.value or default_seeds)
  seeds = list(dict.fromkeys(seeds))
  step = cli.parse_step(_STEP.value)
  # Imported late, so that --help and bad flags return at once.
  from msggan_jax.checkpoints import trained
  from msggan_jax.data import pictures
  from msggan_jax.models.pyramid import connected_scales
  from msggan_jax.sampling.job import Job

  module = importlib.import_module(f"msggan_jax.sampling.{_MODES[mode][0]}")
  generator = trained.load_generator(
    _WORKDIR.value, step, ema_kimg=_EMA_KIMG.value
  )
  config = generator.config
  job = Job(
    generator=generator,
    output=Path(_OUTPUT.value),
    seeds=seeds,
    labels=assign_labels(
      _LABELS.value, config.num_classes, len(seeds), generator.class_names
    ),
    scales=parse_scales(
      _SCALES.value,
      connected_scales(config.resolution, config.connected_scales),
    ),
    truncation_psi=_TRUNCATION_PSI.value,
    batch_size=_BATCH_SIZE.value,
    bands=pictures.parse_bands(_BANDS.value, config.channels) or None,
  )
  print("\n".join(getattr(module, mode)(job, **options)))


def parse_options(mode: str) -> dict[str, Any]:
  """Return a mode's arguments from its flags; refuse those of other modes."""
  values = flags.FLAGS
  for name in {name for _, *names in _MODES.values() for name in names}:
    modes = [other for other, (_, *names) in _MODES.items() if name in names]
    if name != "workdir" and values[name].present and mode not in modes:
      raise ValueError(
        f"--{name}: --mode={mode} has no use for it, only {' and '.join(modes)}"
      )
  for name in _UNUSED.get(mode, ()):
    if values[name].present:
      raise ValueError(f"--{name}: --mode={mode} has no use for it")
  if mode == "project" and not values.image:
    raise ValueError("--mode=project needs --image=FILE, the image to find")
  options = {name: values[name].value for name in _MODES[mode][1:]}
  parsers = {
    "psis": parse_psis,
    "fine_seeds": lambda value: parse_numbers("fine_seeds", value),
    "image": Path,
    "workdir": Path,
  }
  for name in parsers.keys() & options:
    options[name] = parsers[name](options[name])
  return options


def parse_psis(values: Sequence[str]) -> list[float]:
  """Parse finite numbers; others raise ValueError."""
  try:
    numbers = [float(value) for value in values]
  except ValueError:
    numbers = []
  if not numbers or not all(map(math.isfinite, numbers)):
    raise ValueError(f"--psis={','.join(values)}: give numbers, such as 1,0.5")
  return numbers


def parse_numbers(flag: str, text: str) -> list[int]:
  """Parse a flag's numbers and ranges, "0-15,20"; others raise ValueError."""
  all_numbers = []
  for part in text.split(","):
    first, dash, last = part.strip().partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()):
      raise ValueError(
        f"--{flag}={text}: {part!r} is neither a number nor a range"
      )
    numbers = range(int(first), int(last or first) + 1)
    if numbers.stop > 2**32:  # larger keys would be those of smaller ones
      raise ValueError(f"--{flag}={text}: the largest number is {2**32 - 1}")
    if not 0 < len(numbers) <= _MOST_NUMBERS:
      raise ValueError(
        f"--{flag}={text}: the range {part!r} has {len(numbers):,} numbers; "
        f"choose 1 to {_MOST_NUMBERS:,}"
      )
    all_numbers.extend(numbers)
  return all_numbers


def assign_labels(
  text: str, num_classes: int, num: int, names: Sequence[str] = ()
) -> list[int] | None:
  """Return a class for each of `num` seeds: those of --labels, or all, in turn.

  None for an unconditional run, which has no classes; `names` are those of the
  classes, if they are known.
  """
  if not num_classes:
    if text:
      raise ValueError(f"--labels={text}: this run has no classes")
    return None
  classes = parse_labels(text, names) if text else range(num_classes)
  if max(classes) >= num_classes:
    raise ValueError(
      f"--labels={text}: this run has classes 0 to {num_classes - 1}"
    )
  return [classes[i % len(classes)] for i in range(num)]


def parse_labels(text: str, names: Sequence[str]) -> list[int]:
  """Parse classes by number, range or name; a number is never a name."""
  text = unicodedata.normalize("NFC", text)
  labels = {name: label for label, name in enumerate(names)}
  classes = []
  for part in [text] if text in labels else map(str.strip, text.split(",")):
    if not names or re.fullmatch(r"\d+(-\d+)?", part):
      classes += parse_numbers("labels", part)
    elif part in labels:
      classes.append(labels[part])
    else:
      from msggan_jax.data import reading

      known = (f"{label}: {name}" for name, label in labels.items())
      raise ValueError(
        f"--labels={text}: there is no class {part!r}; there are "
        f"{reading.listed(known, _MOST_CLASSES)}"
      )
  return classes


def parse_scales(text: str, available: tuple[int, ...]) -> tuple[int, ...]:
  """Return available resolutions, "64,256", low to high; others are refused."""
  if not text:
    return ()
  scales = {int(r) if r.strip().isdecimal() else r for r in text.split(",")}
  if not scales <= set(available):
    raise ValueError(
      f"--scales={text}: this generator has {', '.join(map(str, available))}"
    )
  return tuple(r for r in available if r in scales)


if __name__ == "__main__":
  cli.run(main)
