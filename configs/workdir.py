"""The configuration of a workdir, to train it further or with other data.

python -m msggan_jax.main --config=configs/workdir.py:runs/bmsg \
  --workdir=runs/bmsg --config.dataset.name=folder --config.dataset.path=photos
"""

import json
import pathlib
import runpy

_DEFAULT = pathlib.Path(__file__).with_name("default.py")


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
  # A run of before a field existed has the field's default.
  config = runpy.run_path(str(_DEFAULT))["get_base_config"]()
  config.update(json.loads(path.read_text()))
  config.extractor = ""
  return config
