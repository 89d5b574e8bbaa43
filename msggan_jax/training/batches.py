"""The batches of a run: its training set and its held-out images."""

import functools
from collections.abc import Iterator
from pathlib import Path

import jax
from ml_collections import ConfigDict

from msggan_jax import data
from msggan_jax.algorithm import augment, randomness
from msggan_jax.algorithm.train_state import TrainState
from msggan_jax.models import stddev
from msggan_jax.runtime import processes


def open_training_set(config: ConfigDict, workdir: Path) -> data.LenientSet:
  """Prepare the data set if necessary and open it, the same everywhere."""
  return _open(config, config.dataset, workdir / "unreadable.jsonl")


def open_holdout(
  config: ConfigDict, workdir: Path, prepared: data.LenientSet
) -> data.LenientSet | None:
  """Open the held-out images if the augmentation needs them."""
  if not augment.needs_holdout(config):
    return None
  dataset = ConfigDict(config.dataset)
  field = "path" if dataset.name == "folder" else "split"
  dataset[field] = config.augment_holdout
  holdout = _open(config, dataset, workdir / "unreadable_holdout.jsonl")
  if holdout.metadata.content_hash == prepared.metadata.content_hash:
    raise ValueError(
      f"config.augment_holdout is {config.augment_holdout!r}, which is the "
      "training set; give images that D is not trained on"
    )
  return holdout


def make_loader(
  config: ConfigDict,
  state: TrainState,
  prepared: data.PreparedSet,
  holdout: data.PreparedSet | None = None,
) -> Iterator:
  """Return the batches of this process that follow a state."""
  of_set = functools.partial(
    data.make_loader,
    batch_size=config.batch_size,
    seed=randomness.data_seed(config.seed, int(state.rollbacks)),
    first_step=int(state.step),
    class_group=stddev.examples_of_a_class(config),
    process_index=jax.process_index(),
    process_count=jax.process_count(),
  )
  if holdout is None:
    return of_set(prepared)
  return data.with_holdout(of_set(prepared), of_set(holdout))


def _open(
  config: ConfigDict, dataset: ConfigDict, unreadable: Path
) -> data.LenientSet:
  """Prepare a data set if necessary and open it, the same everywhere."""
  path = data.prepare_for(config, dataset, num_classes=config.num_classes)
  prepared = data.LenientSet(
    data.open_prepared(path),
    config.dataset.max_unreadable,
    unreadable,
  )
  processes.check_same("the data set", prepared.metadata.content_hash)
  data.check_classes(config.num_classes, prepared.metadata.num_classes)
  return prepared
