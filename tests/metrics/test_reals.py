"""One pass over the real images, and the cache of its results."""

import errno
from pathlib import Path

import numpy as np

from msggan_jax import metrics
from msggan_jax.metrics import distances, feature_pass, protocols, reals
from msggan_jax.metrics.feature_pass import Passes, Request, Rows
from tests.commands import EXTRACTOR
from tests.golden_metrics.mean_colors import mean_colors


def test_draws_of_reals():
  source = reals.Reals(None, 10, mirror=True)
  numbers, flips = source.draw("full", 1000)
  assert numbers.tolist() == list(range(10)) and not flips.any()
  numbers, flips = source.draw("", 6)
  assert len(set(numbers.tolist())) == 6 and not flips.any()
  assert source.draw("", 1000)[0].tolist() == list(range(10))
  numbers, flips = source.draw("official", 1005)
  assert len(numbers) == len(flips) == 1005
  assert set(np.bincount(numbers[:1000])) == {100}
  assert 400 < flips.sum() < 600
  numbers, flips = source.draw("", 6, twice=True)
  assert (numbers[::2] == numbers[1::2]).all() and len(numbers) == 12
  assert flips.tolist() == [False, True] * 6
  same = reals.Reals(None, 10)
  assert not same.draw("official", 1005)[1].any()
  assert len(same.draw("full", None, twice=True).numbers) == 10


def test_one_pass_serves_all_requests():
  """Counts of their own; the batch size changes nothing."""
  images = np.random.RandomState(0).randint(0, 256, (30, 4, 4, 3), np.uint8)
  networks = metrics.Extractors(user=EXTRACTOR)
  requests = [
    Request("mean_colors", "features", 4, kind, count)
    for kind, count in ((Rows, 30), (Rows, 11), (distances.Moments, 20))
  ]
  expected = mean_colors(images)
  draw = lambda numbers: {4: images[numbers]}
  for size in (1, 7, 64):
    found = Passes(networks, 4, size).measure(draw, requests)
    np.testing.assert_allclose(found[requests[0]].array, expected, rtol=1e-6)
    np.testing.assert_allclose(found[requests[1]].array, expected[:11])
    assert found[requests[2]].arrays()["count"] == 20
    np.testing.assert_allclose(found[requests[2]].mean, expected[:20].mean(0))


def test_changed_data_or_code_never_meets_a_stale_cache(tmp_path, monkeypatch):
  images = np.random.RandomState(0).randint(0, 256, (20, 4, 4, 3), np.uint8)

  def measure_reals(content_hash, name):
    reads = []
    load = lambda i: reads.append(i) or images[i]
    source = reals.Reals(load, 20, content_hash=content_hash, cache=tmp_path)
    networks = metrics.Extractors(user=EXTRACTOR)
    parsed = protocols.parse(name, networks.names)
    found = source.statistics(parsed, Passes(networks, 4, 20))
    return found[parsed[0]], len(reads)

  first, count = measure_reals("a", "fd_mean_colors_10k_full")
  assert count == 20
  again, count = measure_reals("a", "fd_mean_colors_20k_full")
  assert count == 0  # the same reals
  np.testing.assert_array_equal(first.array, again.array)
  assert measure_reals("a", "kid_mean_colors_10k_full")[1] == 0
  with monkeypatch.context() as context:  # too many to be kept
    context.setattr(feature_pass, "_FEW", 10)
    assert measure_reals("a", "fd_mean_colors_10k_full")[1] == 20
  assert measure_reals("b", "fd_mean_colors_10k_full")[1] == 20
  assert measure_reals("a", "fd_mean_colors_10")[1] == 20
  with monkeypatch.context() as context:  # another version of the code
    source = Path(reals.pyramid.__file__).read_text()
    other = tmp_path.with_name("pyramid.py")
    other.write_text(f"{source}\n")
    context.setattr(reals.pyramid, "__file__", str(other))
    assert measure_reals("a", "fd_mean_colors_10k_full")[1] == 20
  assert measure_reals("a", "fd_mean_colors_10k_full")[1] == 0
  for path in tmp_path.iterdir():
    path.write_bytes(path.read_bytes()[:100])
  assert measure_reals("a", "fd_mean_colors_10k_full")[1] == 20


def test_a_cache_that_cannot_be_written_to_changes_nothing(
  tmp_path, monkeypatch
):
  images = np.random.RandomState(0).randint(0, 256, (20, 4, 4, 3), np.uint8)
  source = reals.Reals(lambda i: images[i], 20, cache=tmp_path)
  networks = metrics.Extractors(user=EXTRACTOR)
  parsed = protocols.parse("kid_mean_colors_20", ("mean_colors",))

  def read():
    (found,) = source.statistics(parsed, Passes(networks, 4, 20)).values()
    np.testing.assert_allclose(found.array, mean_colors(images), rtol=1e-6)

  def full(file, **arrays):
    file.write(b"a part")
    raise OSError(errno.ENOSPC, "No space left on device")

  (tmp_path / "file").touch()
  # No folder; one that cannot be searched, as another user's; a full disk.
  for source.cache in (tmp_path / "file", tmp_path / ("x" * 300)):
    read()
  source.cache = tmp_path / "statistics"
  with monkeypatch.context() as context:
    context.setattr(np, "savez", full)
    read()
  assert not list(source.cache.iterdir())
