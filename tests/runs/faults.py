"""Damage to checkpoints."""

from pathlib import Path

from msggan_jax.checkpoints import manifest


def flip(folder: Path) -> None:
  """Flip a bit of the largest file of arrays."""
  files = (path for path in folder.rglob("d/*") if path.is_file())
  path = max(files, key=lambda path: path.stat().st_size)
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)


def halve(folder: Path) -> None:
  """Delete every other file and the manifest."""
  for path in sorted(path for path in folder.rglob("*") if path.is_file())[::2]:
    path.unlink()
  (folder / manifest.NAME).unlink(missing_ok=True)
