"""The batches of a run: its training set and its held-out images."""

import collections
import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from msggan_jax import data
from msggan_jax.algorithm import augment, growth, randomness
from msggan_jax.algorithm.program import RUN_AHEAD
from msggan_jax.algorithm.train_state import TrainState
from msggan_jax.checkpoints.checkpoint import Checkpoints
from msggan_jax.data import run_data, sources, values
from msggan_jax.runtime import errors, processes, sharding

# Among what a checkpoint depends on.
CONTENT_HASH = "the images' content hash"
HELD_OUT_HASH = "the held-out images' content hash"


def trained_on(workdir: Path) -> run_data.RunData | None:
  """Return what is known of the data of a workdir's checkpoints, if it has any.

  Older runs know only the hash of their images, or nothing. So does one whose
  last start had other data and saved no checkpoint.
  """
  recorded = _recorded(workdir)
  if recorded is None:
    return None
  content_hash = str(recorded.get(CONTENT_HASH, ""))
  known = run_data.read(workdir)
  if known and content_hash in ("", known.content_hash):
    return known
  return run_data.RunData(content_hash, None)


def _recorded(workdir: Path) -> dict[str, Any] | None:
  """Return what the newest checkpoint depends on; None without one."""
  with Checkpoints(workdir / "checkpoints") as checkpoints:
    steps = checkpoints.steps
    return (checkpoints.provenance(steps[-1]) or {}) if steps else None


def open_set_of_run(
  config: ConfigDict, workdir: Path, *, new_data: bool = False
) -> data.PreparedSet:
  """Prepare and open the data set of a new run, or the same one of a resumed.

  ValueError if the data have changed, unless `new_data` accepts that.
  """
  known = None if new_data else trained_on(workdir)
  if known is None:
    return open_set(config)
  remedy = "--new_data accepts that"
  other = (
    ", --config.dataset.name=folder --config.dataset.path={} keeps the old"
  )
  try:
    prepared = open_set(config, content_hash=known.content_hash, unchanged=True)
  except data.OutOfDate as error:
    raise ValueError(
      f"{error}; {workdir} would resume with other data: {remedy}"
      f"{other.format(error.path)}"
    ) from error
  if changes := known.changes(prepared):
    if known.is_there():
      remedy += other.format(known.path)
    raise ValueError(
      f"{prepared.path} is not the data set that {workdir} was trained on: "
      f"{'; '.join(changes)}; {remedy}"
    )
  return prepared


def open_set(
  config: ConfigDict, dataset: ConfigDict | None = None, **of_run: Any
) -> data.PreparedSet:
  """Prepare the data set, or another one, and open it, the same everywhere.

  `of_run` are arguments of `data.prepare`.
  """
  path = data.prepare(config, dataset, num_classes=config.num_classes, **of_run)
  prepared = data.open_prepared(path)
  processes.check_same("the data set", prepared.metadata.content_hash)
  data.check_classes(config.num_classes, prepared.metadata.num_classes)
  return prepared


def open_holdout(
  config: ConfigDict, prepared: data.PreparedSet, workdir: Path | None = None
) -> data.PreparedSet | None:
  """Open the held-out images if the augmentation needs them.

  ValueError if they are not those that the run in a workdir resumes with.
  """
  holdout = None
  if augment.needs_holdout(config):
    holdout = _open_held_out(config, prepared)
  recorded = (_recorded(workdir) if workdir else None) or {}
  content_hash = holdout.metadata.content_hash if holdout else None
  if recorded and recorded.get(HELD_OUT_HASH) != content_hash:
    here = holdout.path if holdout else "none"
    raise ValueError(
      f"{workdir} was trained with other held-out images than {here}: give "
      "those in config.augment_holdout; --new_data accepts the change"
    )
  return holdout


def _open_held_out(
  config: ConfigDict, prepared: data.PreparedSet
) -> data.PreparedSet:
  """Open `augment_holdout`; ValueError if it does not suit the training set."""
  field = "path" if config.dataset.name in sources.OF_PATHS else "split"
  # The training set's own hold-out divides nothing here.
  changed = {field: config.augment_holdout, "holdout": 0.0, "group_by": ""}
  dataset = ConfigDict(config.dataset.to_dict() | changed)
  holdout = open_set(config, dataset)
  theirs, ours = holdout.metadata, prepared.metadata
  # The same images, or all of those of which a part is trained on.
  same = (theirs.source, theirs.split) == (ours.source, ours.split)
  same = same and ours.source != "lsun_church"  # it does not name its folder
  if same or theirs.content_hash == ours.content_hash:
    raise ValueError(
      f"config.augment_holdout is {config.augment_holdout!r}, which is the "
      "training set; give images that D is not trained on"
    )
  ranges = prepared.metadata.value_range, holdout.metadata.value_range
  if ranges[0] != ranges[1]:
    ours, theirs = map(values.describe, ranges)
    raise ValueError(
      f"config.augment_holdout is {config.augment_holdout!r}, whose values are "
      f"{theirs}, but {ours} in the training set; prepare both with one "
      "--range=LOW:HIGH"
    )
  ours, theirs = prepared.metadata.class_names, holdout.metadata.class_names
  if config.num_classes and ours != theirs:  # labels are numbers of the names
    raise ValueError(
      f"config.augment_holdout is {config.augment_holdout!r}, which has other "
      "classes than the training set; give the same classes"
    )
  return holdout


def make_loader(
  config: ConfigDict,
  state: TrainState,
  prepared: data.PreparedSet,
  holdout: data.PreparedSet | None = None,
) -> Iterator:
  """Return this process's batches that follow a state, of its next stage."""
  step = int(state.step)
  resolution = growth.phase_at(config, step).resolution
  first = growth.phases_of(config, resolution)[0]
  of_set = functools.partial(
    data.make_loader,
    batch_size=first.batch_size,
    seed=randomness.data_seed(config.seed, int(state.rollbacks)),
    first_step=step - first.first_step,
    first_image=first.first_image,
    class_group=_class_group(config),
    process_index=jax.process_index(),
    process_count=jax.process_count(),
  )
  if holdout is None:
    return of_set(prepared)
  return _with_holdout(of_set(prepared), of_set(holdout))


def _with_holdout(loader: Iterator, holdout: Iterator) -> Iterator:
  """Add a hold-out's batches as "holdout_image" and "holdout_label"."""
  with contextlib.closing(loader), contextlib.closing(holdout):
    for batch, held_out in zip(loader, holdout, strict=True):
      yield batch | {f"holdout_{name}": x for name, x in held_out.items()}


class Unreadable(errors.Ending):
  """A process cannot read its part of the next batch."""

  def __init__(self, error: Exception):
    super().__init__(str(error))
    self.code = errors.exit_code(error)


class Feed:
  """Global batches on the devices, of which each process reads its part.

  Every process reads ahead and tells the others whether it could, so that all
  know of an unreadable batch before the step that lacks it, and nobody waits
  for the answers.
  """

  def __init__(self, mesh: Mesh, loader: Iterator[dict[str, np.ndarray]]):
    self._mesh = mesh
    self._loader = loader
    self._alone = jax.process_count() == 1
    # The answers about a batch are there once the step has ended that was
    # dispatched after they were asked for.
    self._ahead = 1 if self._alone else RUN_AHEAD + 2
    # Parts, and whether the batch is unreadable.
    self._parts = collections.deque()
    self._error: Exception | None = None

  def __next__(self) -> dict[str, jax.Array]:
    """Return the next batch; all raise Unreadable if one lacks its part."""
    if not self.has_next():
      try:
        with processes.raising_together():
          if self._error is not None:
            raise self._error
      except (ValueError, OSError) as error:
        raise Unreadable(error) from error
    part, _ = self._parts.popleft()
    return sharding.put_batch(self._mesh, part)

  def has_next(self) -> bool:
    """Return whether all processes can read the next batch."""
    while len(self._parts) < self._ahead:
      self._parts.append(self._read())
    _, unreadable = self._parts[0]
    return not unreadable

  def _read(self) -> tuple[dict[str, np.ndarray] | None, bool | jax.Array]:
    part = None
    if self._error is None:
      try:
        part = next(self._loader)
      except (ValueError, OSError) as error:
        self._error = error
    if self._alone:
      return part, part is None
    return part, sharding.any_process(self._mesh, part is None)


def _class_group(config: ConfigDict) -> int:
  """Return how many neighbors of a batch must share a class.

  If a group of the minibatch stddev mixed classes, it would show how they
  differ, and G could make one image a class unseen.
  """
  in_groups = config.stddev_grouping == "contiguous"
  has_stddev = config.stddev_placement != "none"
  if not (config.num_classes and in_groups and has_stddev):
    return 1
  return max(1, config.stddev_group)
