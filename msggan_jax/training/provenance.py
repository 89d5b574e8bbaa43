"""What the bytes of a run's states depend on; kept with each checkpoint."""

import hashlib
import os
from pathlib import Path

import jax
import jaxlib
from ml_collections import ConfigDict

import msggan_jax
from msggan_jax import data
from msggan_jax.config.fields import RESUMABLE
from msggan_jax.config.saved import by_name

# A resumed run may change them, and its numbers then differ by rounding.
_ROUNDING = ("micro_batch_size", "remat_from")


def describe(
  config: ConfigDict, prepared: data.PreparedSet
) -> dict[str, str | int]:
  """Return everything that the bytes of a run's states depend on."""
  return {
    **{
      f"config.{name}": repr(value)
      for name, value in by_name(ConfigDict(config).to_dict()).items()
      if name not in RESUMABLE or name in _ROUNDING
    },
    "the images' content hash": prepared.metadata.content_hash,
    "msggan_jax's code": _code_hash(),
    "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
    "jax": jax.__version__,
    "jaxlib": jaxlib.__version__,
    "the device": jax.devices()[0].device_kind,
    "the number of devices": jax.device_count(),
    "the number of processes": jax.process_count(),
  }


def _code_hash() -> str:
  root = Path(msggan_jax.__file__).parent
  digest = hashlib.sha256()
  for part in ("algorithm", "data", "models", "runtime"):
    for path in sorted((root / part).rglob("*.py")):
      digest.update(f"{path.relative_to(root)} ".encode() + path.read_bytes())
  return digest.hexdigest()
