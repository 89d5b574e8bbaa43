"""Count the bodies and parts that a generator of the demo's cats draws.

  python -m benchmarks.cats --workdir=runs/demo [--step=best]

Of 1,000 fakes. `bodies`: of 15, by features of EfficientNet-Lite0. The others,
by the 32x32 pixels: `parts`, of 65, and by layer; `novel`, the share of fakes
whose combination no training cat has, and `novel_of_training`, the same of
training cats, all of it the classifier's mistake; `distinct`, the share of
different combinations; `error_<layer>`, the classifier's on other real cats.
A part is found if fakes show it at least half as often as real cats do.
"""

import argparse
import json
import types
from collections.abc import Sequence

import jax
import numpy as np

from msggan_jax.checkpoints import trained
from msggan_jax.data.sources import demo
from msggan_jax.metrics import EfficientNetLite0
from msggan_jax.models import pyramid
from msggan_jax.runtime import cli, progress

NUM_FAKES = 1000
NUM_CATS = 6000  # real ones: to fit the classifier of parts and to test it
NUM_BODIES = 1000  # real ones whose features stand for the bodies
_SIDE = 32  # pixels of the classifier's images
_SEED = 0
_FITTED = 2 / 3  # share of the reals to fit; the errors are of the others
_RIDGE = 1e-3  # times the mean variance of a feature


def measure(generator: trained.Generator) -> dict[str, float]:
  """Return the numbers of a generator; the same fakes and reals each time."""
  random = np.random.RandomState(_SEED)
  numbers = random.permutation(20_000)[:NUM_CATS]
  parts = np.array([demo.cat_parts(int(i)) for i in numbers])
  train = types.SimpleNamespace(split="train", labels="none")
  resolution = generator.config.resolution
  with demo.open_cats(train, resolution) as source:
    reals = np.stack([np.asarray(source.load(int(i))[0]) for i in numbers])
  z = generator.sample_latents(jax.random.key(_SEED), NUM_FAKES)
  labels = None
  if generator.config.num_classes:
    labels = parts[random.randint(len(parts), size=NUM_FAKES), 0]
  *_, images = progress.map_batches(generator, z, labels, batch_size=100)
  fakes = np.asarray(pyramid.to_uint8(images))
  network = EfficientNetLite0.from_package()
  real_features, fake_features = (
    network.features(x)[network.pooled] for x in (reals[:NUM_BODIES], fakes)
  )
  bodies = parts[:NUM_BODIES, 0]
  trained_on = [demo.cat_parts(i) for i in range(20_000)]
  return {
    "bodies": count_bodies(real_features, bodies, fake_features),
    **combinations(_pixels(reals), parts, _pixels(fakes), trained_on),
  }


def count_bodies(
  reals: np.ndarray, bodies: np.ndarray, fakes: np.ndarray
) -> int:
  """Count the bodies that fakes show, a measure of mode collapse.

  A fake is assigned the body with the nearest mean of real features, which is
  right for 93 % of real cats. Features are (N, D) and (M, D), `bodies` the
  reals', (N,).
  """
  present, body_of, counts = np.unique(
    bodies, return_inverse=True, return_counts=True
  )
  means = np.zeros((len(present), reals.shape[1]))
  np.add.at(means, body_of, reals)
  means /= counts[:, None]
  # |f - m|^2 without |f|^2, which is the same for all means.
  nearest = ((means**2).sum(axis=1) - 2 * fakes @ means.T).argmin(axis=1)
  return _found(body_of, nearest)


class PartClassifier:
  """Linear classifiers, by ridge regression, that name the parts of cats.

  Attributes:
    errors: Share of real cats, not fitted to, whose part is named wrongly, by
      layer.
  """

  def __init__(self, features: np.ndarray, parts: np.ndarray):
    """Fit to real cats: features, (N, D), and parts by layer, (N, 5)."""
    fitted = round(_FITTED * len(features))
    self.num_fitted = fitted
    self._mean = features[:fitted].mean(axis=0)
    centered = features[:fitted] - self._mean
    targets = [
      np.eye(layer.max() + 1, dtype=np.float32)[layer]
      for layer in parts[:fitted].T
    ]
    self._ends = np.cumsum([target.shape[1] for target in targets])[:-1]
    target = np.concatenate(targets, axis=1)
    self._bias = target.mean(axis=0)
    covariance = centered.T @ centered / fitted
    ridge = _RIDGE * np.trace(covariance) / len(covariance) + 1e-12
    covariance[np.diag_indices_from(covariance)] += ridge
    self._weights = np.linalg.solve(
      covariance, centered.T @ (target - self._bias) / fitted
    )
    wrong = self.name(features[fitted:]) != parts[fitted:]
    self.errors = wrong.mean(axis=0).tolist()

  def name(self, features: np.ndarray) -> np.ndarray:
    """Return the parts of cats, (N, 5)."""
    scores = (features - self._mean) @ self._weights + self._bias
    layers = np.split(scores, self._ends, axis=1)
    return np.stack([layer.argmax(axis=1) for layer in layers], axis=1)


def combinations(
  reals: np.ndarray,
  parts: np.ndarray,
  fakes: np.ndarray,
  trained_on: Sequence[demo.CatParts],
) -> dict[str, float]:
  """Compare the parts and combinations of fakes with those of real cats.

  Features are (N, D) and (K, D), `parts` those of the reals, (N, 5),
  `trained_on` those of all training cats.
  """
  classifier = PartClassifier(reals, parts)
  named = classifier.name(fakes)
  layers = demo.CatParts._fields
  found = [_found(parts[:, i], named[:, i]) for i in range(len(layers))]
  known = {tuple(cat) for cat in trained_on}

  def share_of_novel(cats: np.ndarray) -> float:
    return float(np.mean([tuple(cat) not in known for cat in cats.tolist()]))

  of_training = classifier.name(reals[classifier.num_fitted :])
  return {
    "parts": sum(found),
    **dict(zip(layers, found, strict=True)),
    "novel": share_of_novel(named),
    "novel_of_training": share_of_novel(of_training),
    "distinct": len(np.unique(named, axis=0)) / len(named),
    **{
      f"error_{layer}": error
      for layer, error in zip(layers, classifier.errors, strict=True)
    },
  }


def _found(reals: np.ndarray, fakes: np.ndarray) -> int:
  """Count the parts that fakes show at least half as often as reals."""
  size = max(reals.max(), fakes.max()) + 1
  real_shares = np.bincount(reals, minlength=size) / len(reals)
  shares = np.bincount(fakes, minlength=size) / len(fakes)
  return int(((real_shares > 0) & (shares >= real_shares / 2)).sum())


def _pixels(images: np.ndarray) -> np.ndarray:
  """Return images, averaged to 32x32 at most, as rows in [0, 1]."""
  n, side = images.shape[:2]
  f = max(1, side // _SIDE)
  # (N, H, W, C) -> (N, H/f, f, W/f, f, C)
  cells = images.reshape(n, side // f, f, side // f, f, -1).mean(axis=(2, 4))
  return (cells.reshape(n, -1) / 255).astype(np.float32)


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument("--workdir", required=True)
  parser.add_argument("--step", default="", help="best; default: the newest")
  arguments = parser.parse_args()
  try:
    generator = trained.load_generator(
      arguments.workdir, cli.parse_step(arguments.step)
    )
  except (OSError, ValueError) as error:
    parser.exit(2, f"{error}\n")
  if generator.config.get("dataset", {}).get("name") != "cats":
    parser.exit(2, f"{arguments.workdir} does not draw the demo's cats\n")
  print(json.dumps(measure(generator)))


if __name__ == "__main__":
  main()
