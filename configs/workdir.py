"""The configuration of a workdir, to train it further or with other data.

python -m msggan_jax.main --config=configs/workdir.py:runs/bmsg \
  --workdir=runs/bmsg --config.dataset.name=folder --config.dataset.path=photos
"""

import json
import pathlib

from ml_collections import ConfigDict, config_dict


def get_config(workdir):
  """Return a run's `config.json` without `extractor`.

  The workdir may be somebody else's, and that field names code to be run.

  Raises:
    ValueError: If the folder is no workdir.
  """
  path = pathlib.Path(workdir) / "config.json"
  if not path.is_file():
    raise ValueError(
      f"{workdir} is not the workdir of a run: it has no config.json"
    )
  fields = json.loads(path.read_text())
  config = ConfigDict(fields)
  # A number that a flag may replace by a name, or the reverse.
  for name in {"batch_size", "connected_scales", "remat_from"} & set(fields):
    del config[name]
    config[name] = config_dict.placeholder(object)
    config[name] = fields[name]
  config.extractor = ""
  return config
