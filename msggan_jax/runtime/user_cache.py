"""The user's cache folder: compiled programs, converted weights."""

import os
from pathlib import Path


def folder() -> Path:
  """Return `$XDG_CACHE_HOME/msggan_jax`, by default in `~/.cache`."""
  home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
  return Path(home).expanduser() / "msggan_jax"
