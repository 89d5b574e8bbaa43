"""Coverage-guided fuzzing of the readers of files of others, with atheris.

  python -m tests.coverage_fuzz torch --secs=3600 --corpus=DIR

An input that raises anything but ValueError, hangs or takes too much memory
ends the program and stays in the corpus's folder as crash-..., timeout-... or
oom-.... It becomes a test. The corpus continues where the last call ended.
"""

import argparse
import functools
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris
import pytest

with atheris.instrument_imports(include=["msggan_jax", "PIL", "zipfile"]):
  from msggan_jax import data
  from msggan_jax.data import pixels, set_writer
  from msggan_jax.data.sources import Source
  from msggan_jax.sharing.foreign import read_torch
  from tests import fuzzing, weight_files
  from tests.data import test_fuzz_prepare as images
  from tests.sharing import test_fuzz_readers as readers

SECS = 20  # for one input
MEBIBYTES = 4096


def weights(name: str, folder: Path) -> tuple[Callable, list[bytes], list]:
  """Return a reader, seeds and tokens."""
  read, make_seeds, _ = readers.TARGETS[name]
  return _through(read, folder), make_seeds(folder), readers.TOKENS


def zipped_torch(folder: Path) -> tuple[Callable, list[bytes], list]:
  """Return a reader of the pickle within a PyTorch file: no checksum before."""
  read = _through(read_torch, folder)
  seeds = readers.torch_seeds(folder)[:2]

  def read_zipped(content: bytes) -> None:
    read(weight_files.zip_bytes(content, [b"\0" * 24] * 3))

  return read_zipped, seeds, readers.TOKENS


def image(folder: Path) -> tuple[Callable, list[bytes], list]:
  del folder
  wanted = data.Metadata("", "", "center", 16, 3)

  def prepare(content: bytes) -> None:
    source = Source(["1"], lambda _: (pixels.open_image(content), 0))
    png, entry = set_writer._make_picture(source, 0, wanted)
    assert bool(png) != isinstance(entry, dict)

  return prepare, images.image_seeds(), images.TOKENS


def zipped_images(folder: Path) -> tuple[Callable, list[bytes], list]:
  (folder / "output").mkdir()
  path = folder / "photos.zip"

  def prepare(content: bytes) -> None:
    path.write_bytes(content)
    images.prepare(path, folder)

  tempfile.tempdir = str(folder / "temporary")
  Path(tempfile.tempdir).mkdir()
  return prepare, images.zip_seeds(), images.TOKENS


TARGETS = {
  **{
    name: functools.partial(weights, name)
    for name in ("torch", "tf", "safetensors")
  },
  "torch-zip": zipped_torch,
  "image": image,
  "images-zip": zipped_images,
}


def _through(read: Callable[[Path], object], folder: Path) -> Callable:
  path = folder / "weights"

  def read_bytes(content: bytes) -> None:
    path.write_bytes(content)
    try:
      read(path)
    except ValueError as error:
      assert str(error)

  return read_bytes


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("target", choices=TARGETS)
  parser.add_argument("--secs", type=int, default=3600)
  parser.add_argument("--corpus", type=Path, required=True)
  arguments = parser.parse_args()
  corpus = arguments.corpus / arguments.target
  corpus.mkdir(parents=True, exist_ok=True)
  weight_files.install_stand_ins(pytest.MonkeyPatch())
  folder = Path(tempfile.mkdtemp(prefix="fuzz"))
  read, seeds, tokens = TARGETS[arguments.target](folder)
  for i, seed in enumerate(seeds):
    (corpus / f"seed-{i}").write_bytes(seed)
    read(seed)

  def mutate(content: bytes, most: int, seed: int) -> bytes:
    """Use the seeded fuzzer's mutations, which know the formats, or plain."""
    rng = random.Random(seed)
    if rng.random() < 0.5:
      return fuzzing.mutate(rng, [content or seeds[0]], tokens)[:most]
    return atheris.Mutate(content, most)

  atheris.Setup(
    [
      sys.argv[0],
      str(corpus),
      f"-max_total_time={arguments.secs}",
      f"-timeout={SECS}",
      f"-rss_limit_mb={MEBIBYTES}",
      f"-artifact_prefix={corpus.parent}/{arguments.target}-",
      "-max_len=65536",
      "-print_final_stats=1",
    ],
    read,
    custom_mutator=mutate,
  )
  atheris.Fuzz()


if __name__ == "__main__":
  main()
