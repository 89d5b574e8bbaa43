r"""Prepare a data set: crop, resize and store its images once.

With --range, the files' values are stored as they are, see docs/arrays.md.

  python -m msggan_jax.prepare --source=photos --output=data/photos \
    --resolution=128 [--labels=folders] [--holdout=0.1]
  python -m msggan_jax.prepare --config=configs/cifar10.py
"""

from absl import flags

from msggan_jax.runtime import cli

_CONFIG = cli.define_config(required=False)
_SOURCE = flags.DEFINE_string(
  "source",
  None,
  "Instead of --config: DIR or ZIP with images, tfds:NAME, lmdb:DIR (LSUN), "
  "demo:cats or demo:earth.",
)
_OUTPUT = flags.DEFINE_string(
  "output",
  None,
  "Folder of the prepared set; with --config by default below "
  "dataset.data_dir.",
)
_RESOLUTION = flags.DEFINE_integer(
  "resolution", None, "Side of the images in pixels, a power of two."
)
_BASE_GRID = flags.DEFINE_string(
  "base_grid",
  "4x4",
  "Rows and columns of the smallest scale: 3x4 at resolution 256 makes images "
  "of 192 rows and 256 columns.",
)
_CHANNELS = flags.DEFINE_integer(
  "channels", 3, "1: gray, 3: RGB, 4: RGBA; with --range any number."
)
_RANGE = flags.DEFINE_string(
  "range",
  "",
  "The files hold values, not colors: what becomes -1 and 1, such as "
  "-1000:3000HU, one for each channel with commas, or auto, or auto:0.1 "
  "without 0.1 % of the values at each end.",
)
_WINDOW = flags.DEFINE_string(
  "window", "", "Instead of --range, of CT: WIDTH:LEVEL in HU, such as 400:40."
)
_LAYOUT = flags.DEFINE_string(
  "layout",
  "",
  "Axes of the files' arrays: H, W, C (channels), N (one image each), or a "
  "digit (so many neighbors are channels), such as HWC, CHW, NHWC or WH3; by "
  "default told by the number of channels.",
)
_CROP = flags.DEFINE_enum(
  "crop", "center", ["center", "pad"], "Crop the center, or add borders."
)
_SPLIT = flags.DEFINE_string("split", "train", "Split of a TFDS or demo set.")
_LABELS = flags.DEFINE_enum(
  "labels",
  "none",
  ["none", "folders", "labels.csv", "dataset.json", "bodies"],
  "Classes of a folder's or zip's images: its sub-folders, or its label file; "
  "or the bodies of demo:cats.",
)
_HOLDOUT = flags.DEFINE_float(
  "holdout", 0.0, "Share (or number) of the images kept from training."
)
_GROUP_BY = flags.DEFINE_string(
  "group_by",
  "",
  "Hold-out: images whose names match this regular expression alike stay "
  "together, such as p(\\d+)_ for a patient's number, not near-duplicates.",
)
_STRICT = flags.DEFINE_bool("strict", False, "Fail if an image is unusable.")

_OF_SOURCE = (
  *(_RESOLUTION, _BASE_GRID, _CHANNELS, _CROP, _SPLIT, _LABELS, _HOLDOUT),
  *(_RANGE, _WINDOW, _LAYOUT, _GROUP_BY),
)


def main() -> None:
  """Prepare a data set and describe it."""
  # Imported late, so that --help returns at once.
  from msggan_jax import data
  from msggan_jax.config import checks
  from msggan_jax.config.fields import FIELDS
  from msggan_jax.data.sources import LATER, config_of

  if (_CONFIG.value is None) == (_SOURCE.value is None):
    raise ValueError("give either --config or --source; see --help")
  if _CONFIG.value is not None:
    for flag in _OF_SOURCE:
      if flag.present:
        raise ValueError(f"--{flag.name} goes with --source, not with --config")
    config = _CONFIG.value
    # Older files lack some fields.
    there = {*cli.by_name(config.to_dict())}
    absent = {f"dataset.{name}" for name in LATER} - there
    names = [x for x in FIELDS if x.startswith("dataset.") and x not in absent]
    checks.check_fields(config, [*names, "resolution", "channels", "base_grid"])
  else:
    if not _OUTPUT.value or _RESOLUTION.value is None:
      raise ValueError("--source needs --output and --resolution; see --help")
    if _SPLIT.present and not _SOURCE.value.startswith(("tfds:", "demo:")):
      raise ValueError("--split goes with TFDS and demo sets")
    config = config_of(
      _SOURCE.value,
      _RESOLUTION.value,
      _CHANNELS.value,
      _BASE_GRID.value,
      split=_SPLIT.value,
      crop=_CROP.value,
      labels=_LABELS.value,
      holdout=_HOLDOUT.value,
      range=_range(),
      layout=_LAYOUT.value,
      group_by=_GROUP_BY.value,
    )
  path = data.prepare(config, output=_OUTPUT.value, strict=_STRICT.value)
  print(data.summary(path))


def _range() -> str:
  from msggan_jax.data import values

  if _WINDOW.value and _RANGE.value:
    raise ValueError("--window and --range mean the same: give one of them")
  return values.window(_WINDOW.value) if _WINDOW.value else _RANGE.value


if __name__ == "__main__":
  cli.run(main)
