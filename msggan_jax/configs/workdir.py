"""The configuration of a workdir, to train it further or with other data.

python -m msggan_jax.main --config=configs/workdir.py:runs/bmsg \
  --workdir=runs/bmsg --config.dataset.name=folder --config.dataset.path=photos
"""

from msggan_jax.config import saved


def get_config(workdir):
  """Return a run's `config.json` without a data set, folders and programs.

  The workdir may be somebody else's, so name those of this machine.

  Raises:
    ValueError: If the folder is not a workdir.
  """
  try:
    return saved.load_of_others(workdir)
  except FileNotFoundError as error:
    raise ValueError(str(error)) from error
