"""Images of a category of LSUN, an LMDB."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msggan_jax.data import image_files
from msggan_jax.data.sources import Source, stamp_of


@contextlib.contextmanager
def open_lsun(dataset: Any, resolution: int) -> Iterator[Source]:
  """Open the images of an LSUN category, in the order of its LMDB."""
  del resolution
  path = Path(dataset.path)
  if not dataset.path or not (path / "data.mdb").is_file():
    raise ValueError(
      f"dataset.path: no LSUN database in {str(dataset.path)!r}; download "
      "church_outdoor_train_lmdb.zip from https://www.yf.io/p/lsun, unzip it, "
      "and set dataset.path to the directory church_outdoor_train_lmdb"
    )
  try:
    import lmdb
  except ImportError as error:
    raise ValueError(
      "reading LSUN needs the package lmdb: pip install 'msggan_jax[lsun]'"
    ) from error
  options = {"readonly": True, "lock": False, "readahead": False}
  try:
    environment = lmdb.open(str(path), create=False, **options)
    pages = environment.info()["last_pgno"] + 1
  except lmdb.Error as error:
    raise ValueError(f"{path / 'data.mdb'}: {error}; unzip it again") from error
  with environment:
    # LMDB maps the file: reading behind its end would kill the process.
    if pages * environment.stat()["psize"] > (path / "data.mdb").stat().st_size:
      raise ValueError(f"{path / 'data.mdb'} is incomplete; unzip it again")
    with environment.begin() as transaction:
      keys = list(transaction.cursor().iternext(keys=True, values=False))

    def load(index):
      # A transaction belongs to one thread; opening one takes microseconds.
      with environment.begin() as transaction:
        return image_files.open_image(transaction.get(keys[index])), 0

    names = [key.decode("utf-8", "backslashreplace") for key in keys]
    stamp = stamp_of(path / "data.mdb")
    yield Source(names, load, stamp=lambda index: stamp)
