"""A run's config.json; read without JAX."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from msggan_jax.config.fields import (
  FIELDS,
  LATER,
  REMOVED,
  RESUMABLE,
  default_config,
)
from msggan_jax.runtime import files
from msggan_jax.runtime.cli import by_name, expand_home

STARTING = ".starting"  # in the workdir until its first checkpoint is complete

# A resumed run may change them, and its numbers then differ by rounding.
_ROUNDING = ("micro_batch_size", "remat_from")


def exists(workdir: Path | None) -> bool:
  """Return whether a folder has the `config.json` of a run that has begun.

  Other fields may follow one that ended before its first row and checkpoint,
  such as for lack of memory.
  """
  if workdir is None or not (workdir / "config.json").is_file():
    return False
  has_begun = (workdir / "stats.jsonl").exists() or _has_checkpoint(workdir)
  return has_begun or not (workdir / STARTING).exists()


def _has_checkpoint(workdir: Path) -> bool:
  return any((workdir / "checkpoints").glob("[0-9]*"))


def load_config(workdir: str | Path) -> ConfigDict:
  """Read a workdir's `config.json`; raise ValueError if it is damaged."""
  path = Path(workdir) / "config.json"
  if not path.is_file():
    problem = "it has no config.json"
    if not Path(workdir).exists():
      problem = "it does not exist"
    raise FileNotFoundError(f"{workdir} is not the workdir of a run: {problem}")
  try:
    config = ConfigDict(json.loads(path.read_text()))
    expand_home(config)
    config.update({k: v for k, v in LATER.items() if k not in config})
    return config
  except (ValueError, TypeError, AttributeError, RecursionError) as error:
    raise ValueError(f"{path} holds no configuration") from error


def load_of_others(workdir: str | Path) -> ConfigDict:
  """Read a `config.json`, perhaps somebody else's, to train further.

  New fields have their defaults; so have those that choose a data set, files,
  folders or programs of this machine. Raises ValueError for unknown fields.
  """
  config = default_config()
  theirs = by_name(load_config(workdir).to_dict())
  _check_known(theirs, workdir)
  known = {
    name: theirs[name]
    for name, field in FIELDS.items()
    if name in theirs and not field.private and name != "dataset.name"
  }
  config.update_from_flattened_dict(known)
  return config


def save_config(config: ConfigDict, workdir: Path) -> None:
  """Write a workdir's `config.json`."""
  workdir.mkdir(parents=True, exist_ok=True)
  text = json.dumps(config.to_dict(), indent=2, sort_keys=True)
  files.write(workdir / "config.json", text + "\n")


def _check_known(
  theirs: Mapping[str, Any], workdir: str | Path, ours: Collection[str] = ()
) -> None:
  """Refuse a run that was trained with fields that would be dropped."""
  unknown = [
    f"{name} {value!r}"
    for name, value in theirs.items()
    if name not in FIELDS
    and name not in ours  # as a config file may have some of its own
    and not (name in REMOVED and REMOVED[name] in (None, value))
  ]
  if unknown:
    raise ValueError(
      f"{workdir} was trained with fields that this version lacks: "
      f"{', '.join(unknown)}; use the version that has them, or remove them "
      "from its config.json to train on without them"
    )


def check_config(config: ConfigDict, workdir: Path) -> None:
  """Raise ValueError if a workdir's run has a configuration of other fields."""
  if not exists(workdir):
    if workdir.is_file():
      raise ValueError(f"{workdir} is a file; choose another --workdir")
    if _has_checkpoint(workdir):
      raise ValueError(
        f"{workdir} has checkpoints, but no config.json: bring it back, or "
        "choose another --workdir"
      )
    return
  # A field that is newer than the run has its default.
  theirs = {name: field.default for name, field in FIELDS.items()}
  theirs |= by_name(load_config(workdir).to_dict())
  ours = by_name(json.loads(json.dumps(config.to_dict())))
  _check_known(theirs, workdir, ours)
  differing = [
    f"{name} (there {theirs[name]!r}, here {ours.get(name)!r})"
    for name in sorted(FIELDS.keys() - RESUMABLE)
    if ours.get(name) != theirs[name]
  ]
  if differing:
    raise ValueError(
      f"{workdir} holds a run of another configuration: "
      f"{'; '.join(differing)}; choose another --workdir, or these values"
    )


def decisive(config: ConfigDict) -> dict[str, str]:
  """Return the fields that the bytes of a run's states depend on, as text."""
  return {
    f"config.{name}": repr(value)
    for name, value in by_name(ConfigDict(config).to_dict()).items()
    if name not in RESUMABLE or name in _ROUNDING
  }
