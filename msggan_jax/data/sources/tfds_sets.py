"""Data sets of the TensorFlow Datasets catalog, downloaded by TFDS."""

import contextlib
import difflib
import io
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from msggan_jax.data import image_files, pixels
from msggan_jax.data.sources import OpenSource, Source
from msggan_jax.runtime import errors


def open_tfds(dataset: Any, resolution: int) -> OpenSource:
  """Open a data set of TFDS, downloading it first if necessary.

  Its name is such as "cifar10" or "celeb_a_hq/1024", its `path` TFDS's own data
  directory ("": the default), its `split` one or several ("train+test").
  """
  del resolution
  builder = _find_builder(dataset.name, dataset.path)
  features = builder.info.features
  if "image" not in features:
    raise ValueError(f"dataset.name: {dataset.name} has no feature 'image'")
  _download(builder)
  decoders = {"image": tfds.decode.SkipDecoding()}
  try:
    records = builder.as_data_source(split=dataset.split, decoders=decoders)
  except Exception as error:  # TFDS has no error class of its own here
    raise ValueError(
      f"dataset.split: cannot read {dataset.split!r} of {dataset.name} in "
      f"{builder.data_dir}: {errors.first_line(error)}"
    ) from error
  label = features["label"] if "label" in features else None
  class_names = ()
  if isinstance(label, tfds.features.ClassLabel):
    class_names = tuple(label.names)

  def load(index):
    record = records[index]
    image = record["image"]
    if isinstance(image, np.ndarray):  # a set stored without an image format
      image = pixels.to_image(image)
    else:
      image = image_files.open_image(image)
    number = int(record["label"]) if class_names else 0
    if number < 0:  # of tests whose labels are not published
      raise ValueError(f"label {number}: the image has none")
    return image, number

  names = [f"{dataset.split} {index}" for index in range(len(records))]
  stamp = f"{builder.info.full_name}: {builder.info.dataset_size} bytes"
  return contextlib.nullcontext(
    Source(names, load, class_names, stamp=lambda index: stamp)
  )


def is_there(dataset: Any) -> bool:
  """Return whether a data set of TFDS needs no download."""
  try:
    return _find_builder(dataset.name, dataset.path).is_prepared()
  except ValueError:
    return False


def _find_builder(name: str, path: str) -> tfds.core.DatasetBuilder:
  data_dir = Path(path) if path else None
  if not name:
    raise ValueError(
      "dataset.name is empty; name a data set, such as folder with its "
      "dataset.path"
    )
  if ":" in name:
    # TFDS would download code, by a name that somebody else may have chosen.
    raise ValueError(
      f"dataset.name: {name!r} is not a data set of TFDS's own catalog"
    )
  try:
    return tfds.builder(name, data_dir=data_dir, file_format="array_record")
  except tfds.core.DatasetNotFoundError as error:
    names = tfds.list_builders(with_community_datasets=False)
    near = difflib.get_close_matches(name, names, n=3)
    raise ValueError(
      f"dataset.name: {name!r} is none of 'cats', 'earth', 'folder', "
      "'lsun_church' and no data set of TFDS"
      + (f"; did you mean {' or '.join(map(repr, near))}?" if near else "")
    ) from error
  except Exception as error:  # an unknown config or version, a missing package
    raise ValueError(
      f"dataset.name: TFDS cannot build {name!r}: {errors.first_line(error)}"
    ) from error


def _download(builder: tfds.core.DatasetBuilder) -> None:
  if not builder.is_prepared() and find_spec("tensorflow") is None:
    raise ValueError(
      f"dataset.name: TFDS needs TensorFlow to prepare {builder.name!r}: pip "
      "install 'msggan-jax[tfds]'"
    )
  try:
    # TFDS shows its progress on stdout, which belongs to our commands.
    with contextlib.redirect_stdout(io.StringIO()):
      builder.download_and_prepare(file_format="array_record")
  except Exception as error:  # network, packages, manual downloads, disk
    raise ValueError(
      f"dataset.name: TFDS cannot get {builder.name!r} "
      f"({errors.first_line(error)}); {_remedy(builder, error)}"
    ) from error


def _remedy(builder: tfds.core.DatasetBuilder, error: Exception) -> str:
  if isinstance(error, ImportError):
    return f"pip install {error.name or 'the missing package'}"
  if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
    directory = Path(builder.data_dir_root, "downloads", "manual")
    instructions = " ".join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
    return f"put its files by hand into {directory}: {instructions}"
  return f"is there a network? It would be stored in {builder.data_dir}"
