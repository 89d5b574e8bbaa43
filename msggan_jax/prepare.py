r"""Prepare a data set: crop, resize and store its images once.

With --range, the files' values are stored as they are, see docs/arrays.md.

  python -m msggan_jax.prepare --source=photos --output=data/photos \
    --resolution=128 [--labels=folders] [--holdout=0.1]
  python -m msggan_jax.prepare --config=configs/cifar10.py
"""

from absl import flags

from msggan_jax.config.fields import FIELDS
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
_WINDOW = flags.DEFINE_string(
  "window",
  None,
  "Instead of --range, of CT: WIDTH:LEVEL in HU, such as 400:40.",
)
_STRICT = flags.DEFINE_bool("strict", False, "Fail if an image is unusable.")

# Flag of --source -> field of the configuration.
_OF_SOURCE = {
  name.removeprefix("dataset."): name
  for name in (
    *("resolution", "base_grid", "channels", "dataset.range", "dataset.layout"),
    *("dataset.crop", "dataset.split", "dataset.labels", "dataset.holdout"),
    "dataset.group_by",
  )
}
_DEFINE = {
  int: flags.DEFINE_integer,
  float: flags.DEFINE_float,
  str: flags.DEFINE_string,
}
for _flag, _name in _OF_SOURCE.items():
  _field = FIELDS[_name]
  _help = f"{_field.meaning[:1].upper()}{_field.meaning[1:]}."
  if _field.choices:
    _help += f" {_field.expected.capitalize()}."
  _DEFINE[type(_field.default)](_flag, None, _help)


def main() -> None:
  """Prepare a data set and describe it."""
  # Imported late, so that --help returns at once.
  from msggan_jax import data
  from msggan_jax.config import checks
  from msggan_jax.data import values
  from msggan_jax.data.sources import config_of

  if (_CONFIG.value is None) == (_SOURCE.value is None):
    raise ValueError("give either --config or --source; see --help")
  given = {flag: flags.FLAGS[flag].value for flag in [*_OF_SOURCE, "window"]}
  given = {flag: value for flag, value in given.items() if value is not None}
  if config := _CONFIG.value:
    if given:
      name = next(iter(given))
      raise ValueError(f"--{name} goes with --source, not with --config")
  else:
    if not _OUTPUT.value or "resolution" not in given:
      raise ValueError("--source needs --output and --resolution; see --help")
    if "split" in given and not _SOURCE.value.startswith(("tfds:", "demo:")):
      raise ValueError("--split goes with TFDS and demo sets")
    if window := given.pop("window", None):
      if "range" in given:
        raise ValueError("--window and --range mean the same: give one of them")
      given["range"] = values.window(window)
    config = config_of(_SOURCE.value, given["resolution"])
    config.update_from_flattened_dict(
      {_OF_SOURCE[flag]: value for flag, value in given.items()}
    )
  names = [name for name in FIELDS if name.startswith("dataset.")]
  checks.check_fields(config, [*names, "resolution", "channels", "base_grid"])
  path = data.prepare(config, output=_OUTPUT.value, strict=_STRICT.value)
  print(data.summary(path))


if __name__ == "__main__":
  cli.run(main)
