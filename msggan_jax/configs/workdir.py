"""The configuration of a workdir, to train it further or with other data.

python -m msggan_jax.main --config=configs/workdir.py:runs/bmsg \
  --workdir=runs/bmsg --config.dataset.name=folder --config.dataset.path=photos
"""

from msggan_jax.config import saved


def get_config(workdir):
  """Return a run's `config.json` without `extractor`.

  The workdir may be somebody else's, and that field names code to be run.

  Raises:
    ValueError: If the folder is not a workdir.
  """
  # A field that is newer than the run has its default.
  try:
    config = saved.load_with_defaults(workdir)
  except FileNotFoundError as error:
    raise ValueError(str(error)) from error
  config.extractor = ""
  return config
