"""What the bytes of a run's states depend on; kept with each checkpoint."""

import hashlib
import os
from pathlib import Path

import jax
import jaxlib

import msggan_jax
from msggan_jax import data


def describe(
  fields: dict[str, str], prepared: data.PreparedSet
) -> dict[str, str | int]:
  """Return everything that the bytes of a run's states depend on.

  Args:
    fields: Those of the configuration, see `saved.decisive`.
    prepared: The images.
  """
  return {
    **fields,
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
