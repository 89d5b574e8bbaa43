"""Protocols, the reals' cache, evaluating runs and folders."""

import json
import math

import jax
import numpy as np
import pytest

from msggan_jax import data, metrics
from msggan_jax.checkpoints import checkpoint, trained
from msggan_jax.config import saved
from msggan_jax.metrics import distances, feature_pass, protocols, reals
from msggan_jax.metrics.feature_pass import Request, Rows, measure
from msggan_jax.models import networks
from tests.conftest import load_config
from tests.evaluating import EXTRACTOR, evaluate_command
from tests.golden_metrics.mean_colors import mean_colors

NUM_CATS = 50


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  """A folder with some prepared cats."""
  folder = tmp_path_factory.mktemp("data")
  config = load_config("default")
  config.dataset.name = "cats"
  config.dataset.data_dir = str(folder)
  with pytest.MonkeyPatch.context() as patch:
    splits = {"train": range(NUM_CATS)}
    patch.setattr("msggan_jax.data.sources.demo._CAT_SPLITS", splits)
    data.prepare(config.dataset, resolution=8, channels=3)
  return folder


@pytest.fixture
def config(tiny_config, data_dir):
  tiny_config.resolution = 8
  tiny_config.dataset.data_dir = str(data_dir)
  return tiny_config


@pytest.fixture
def prepared(config):
  path = data.prepare(config.dataset, config.resolution, config.channels)
  return data.open_prepared(path)


@pytest.fixture
def weights(config):
  return networks.make_generator(config).init(jax.random.key(0))


def parse_one(name):
  return protocols.parse(name, ("inception", "efficientnet_lite0"))[0]


def test_names_of_protocols():
  for name, kind, extractor, num_fakes, draws, resolution in (
    ("fid50k_full", "fid", "inception", 50_000, "full", None),
    ("fid50k_official", "fid", "inception", 50_000, "official", None),
    ("fid10k_full/64", "fid", "inception", 10_000, "full", 64),
    ("kid500", "kid", "inception", 500, "", None),
    ("is50k", "is", "inception", 50_000, "", None),
    ("pr", "pr", "inception", None, "", None),
    ("fd_efficientnet_lite0", "fd", "efficientnet_lite0", None, "", None),
    (
      "kid_efficientnet_lite0_10k_full/4",
      "kid",
      "efficientnet_lite0",
      10_000,
      "full",
      4,
    ),
  ):
    protocol = parse_one(name)
    fields = (kind, extractor, num_fakes, draws, resolution)
    assert protocol == protocols.Protocol(name, *fields)


@pytest.mark.parametrize(
  "name",
  [
    "",
    "fid50k_half",
    "fd50k_full",
    "fid_efficientnet_lite0_10k",
    "kid_efficientnet_lite010k",
    "fd_inception_10k",
    "is50k_full",
    "fid0k",
  ],
)
def test_other_names_are_refused(name):
  with pytest.raises(ValueError, match="no metric|is has no"):
    parse_one(name)


def test_defaults_need_no_file():
  for has_inception in (True, False):
    names = protocols.defaults(has_inception, "10k")
    for protocol in protocols.parse(names, ("inception", "efficientnet_lite0")):
      assert (protocol.extractor == "inception") == has_inception


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
  assert not reals.Reals(None, 10).draw("official", 1005)[1].any()


def test_one_pass_serves_all_requests():
  """Counts of their own; the batch size changes nothing."""
  images = np.random.RandomState(0).randint(0, 256, (30, 4, 4, 3), np.uint8)
  networks = metrics.Extractors(user=EXTRACTOR)
  requests = [
    Request("mean_colors", "features", 4, kind, count)
    for kind, count in ((Rows, 30), (Rows, 11), (distances.Moments, 20))
  ]
  expected = mean_colors(images)
  for batch_size in (1, 7, 64):
    found = measure(
      lambda numbers: {4: images[numbers]},
      requests,
      networks,
      batch_size=batch_size,
    )
    np.testing.assert_allclose(found[requests[0]].array, expected, rtol=1e-6)
    np.testing.assert_allclose(found[requests[1]].array, expected[:11])
    assert found[requests[2]].count == 20
    np.testing.assert_allclose(found[requests[2]].mean, expected[:20].mean(0))


def test_a_changed_data_set_never_meets_a_stale_cache(tmp_path):
  images = np.random.RandomState(0).randint(0, 256, (20, 4, 4, 3), np.uint8)
  reads = []

  def measure_reals(content_hash, name):
    source = reals.Reals(
      lambda i: reads.append(i) or images[i],
      20,
      content_hash=content_hash,
      cache=tmp_path,
    )
    networks = metrics.Extractors(user=EXTRACTOR)
    parsed = protocols.parse(name, networks.names)
    found = source.statistics(parsed, networks, 4, batch_size=20)
    reads_now = len(reads)
    reads.clear()
    return found[parsed[0]], reads_now

  first, count = measure_reals("a", "fd_mean_colors_10k_full")
  assert count == 20
  again, count = measure_reals("a", "fd_mean_colors_20k_full")
  assert count == 0  # the same reals
  np.testing.assert_array_equal(first.covariance, again.covariance)
  assert measure_reals("b", "fd_mean_colors_10k_full")[1] == 20
  assert measure_reals("a", "kid_mean_colors_10k_full")[1] == 20
  assert measure_reals("a", "fd_mean_colors_10")[1] == 20
  for path in tmp_path.iterdir():
    path.write_bytes(path.read_bytes()[:100])
  assert measure_reals("a", "fd_mean_colors_10k_full")[1] == 20


def test_the_cache_holds_what_distances_need_of_the_reals(
  tmp_path, monkeypatch
):
  """Neither the root nor the kernel of the reals is computed twice."""
  images = np.random.RandomState(0).randint(0, 256, (20, 4, 4, 3), np.uint8)
  source = reals.Reals(lambda i: images[i], 20, cache=tmp_path)
  networks = metrics.Extractors(user=EXTRACTOR)
  parsed = protocols.parse(
    "fd_mean_colors_20,kid_mean_colors_20", ("mean_colors",)
  )

  def compute_all():
    found = source.statistics(parsed, networks, 4, batch_size=20)
    fakes = {
      protocol: type(statistics).of(mean_colors(images[:12]))
      for protocol, statistics in found.items()
    }
    calls.clear()
    return [feature_pass.compute(p, found[p], fakes[p]) for p in parsed]

  calls = []
  eigh, within = np.linalg.eigh, distances._mean_kernel_within
  monkeypatch.setattr(
    np.linalg, "eigh", lambda x: calls.append("root") or eigh(x)
  )
  monkeypatch.setattr(
    distances,
    "_mean_kernel_within",
    lambda x: calls.append("kernel") or within(x),
  )
  first = compute_all()
  for _ in range(2):
    assert compute_all() == first
    assert calls == ["kernel"]  # of the fakes, which need no root
  for values, distance in zip(
    first, (metrics.frechet_distance, metrics.kernel_distance), strict=True
  ):
    expected = distance(mean_colors(images), mean_colors(images[:12]))
    np.testing.assert_allclose(list(values.values()), expected, rtol=1e-5)


NAMES = (
  "fd_mean_colors_64_full,kid_mean_colors_40,fd_mean_colors_64_full/4,"
  "pr_mean_colors_64,fd_mean_colors_64_official"
)


def test_evaluator(config, prepared, weights):
  """Numbers of all protocols, the same again; as computed by hand."""
  evaluator = metrics.Evaluator(
    config, prepared, metrics.Extractors(user=EXTRACTOR), NAMES
  )
  values = evaluator.evaluate(*weights)
  assert list(values) == [
    "fd_mean_colors_64_full",
    "kid_mean_colors_40",
    "fd_mean_colors_64_full/4",
    "pr_mean_colors_64_precision",
    "pr_mean_colors_64_recall",
    "fd_mean_colors_64_official",
  ]
  assert all(np.isfinite(value) for value in values.values())
  assert evaluator.evaluate(*weights) == values
  row = json.loads(json.dumps(evaluator.record(5, values)))
  assert row["kimg"] == 0.16
  assert row["data_hash"] == prepared.metadata.content_hash
  assert row["weights_hash"] == {"mean_colors": "none"}
  assert "all reals" in row["protocols"]["fd_mean_colors_64_full"]

  images = np.stack([prepared[i]["image"] for i in range(NUM_CATS)])
  small = images.reshape(NUM_CATS, 4, 2, 4, 2, 3).mean(axis=(2, 4))
  pyramid = evaluator._fakes_at(*weights, {4, 8})(np.arange(64))
  for fakes in pyramid.values():
    assert isinstance(fakes, jax.Array) and fakes.dtype == np.uint8
  # Averages of four pixels often lie between two levels: either is right.
  for scale, name, tolerance in ((8, "", 1e-4), (4, "/4", 1e-2)):
    expected = metrics.frechet_distance(
      mean_colors(images if scale == 8 else np.rint(small)),
      mean_colors(pyramid[scale]),
    )
    actual = values[f"fd_mean_colors_64_full{name}"]
    np.testing.assert_allclose(actual, expected, rtol=tolerance)


def test_labels_follow_the_reals(config, prepared):
  config.num_classes = 3
  evaluator = metrics.Evaluator(
    config,
    prepared,
    metrics.Extractors(user=EXTRACTOR),
    "kid_mean_colors_16",
  )
  weights = networks.make_generator(config).init(jax.random.key(0))
  assert np.isfinite(evaluator.evaluate(*weights)["kid_mean_colors_16"])
  assert evaluator._labels.tolist() == [0] * 16  # cats have no labels


@pytest.mark.parametrize(
  ("names", "message"),
  [
    ("fd_mean_colors", "add the number of fakes"),
    ("fd_mean_colors_10k_full/16", "has the scales 4, 8"),
    ("fd_mean_colors_9_full", "10 fakes or more"),
    ("is_mean_colors_10k", "no logits"),
  ],
)
def test_impossible_protocols_are_refused(config, prepared, names, message):
  networks = metrics.Extractors(user=EXTRACTOR)
  with pytest.raises(ValueError, match=message):
    metrics.Evaluator(config, prepared, networks, names)


def test_missing_weights_end_in_one_message(config, prepared, monkeypatch):
  message = "pt_inception-2015-12-05.*--inception=FILE.*fd_efficientnet_lite0"
  with pytest.raises(FileNotFoundError, match=message):
    metrics.Evaluator(config, prepared, metrics.Extractors(), "fid10k_full")
  with pytest.raises(FileNotFoundError, match=message):
    metrics.Extractors("nowhere.pth")
  monkeypatch.setattr("msggan_jax.metrics.efficientnet._PACKAGE", "no-such")
  with pytest.raises(FileNotFoundError, match="pip install"):
    metrics.Extractors()["efficientnet_lite0"]


def test_wrong_extractors_are_refused():
  for text in ("mean_colors", "no_such_module:f", f"{__name__}:nothing"):
    with pytest.raises(ValueError, match="extractor"):
      networks = metrics.Extractors(user=text)
      networks[networks.names[-1]]


def test_a_run_with_metrics_of_before_is_loaded_and_resumed(config, tmp_path):
  """Its config.json is read; naming them again ends in one sentence."""
  config.metrics = "kid_mean_colors_64"
  old = config.copy_and_resolve_references()
  old.metrics = "kid_mean_colors_64,bodies_mean_colors_64"
  saved.save_config(old, tmp_path)
  assert saved.load_config(tmp_path).metrics == old.metrics
  saved.check_config(config, tmp_path)
  with pytest.raises(ValueError, match="remove it from .*benchmarks.cats"):
    protocols.parse(old.metrics, ("mean_colors",))


def test_the_best_row():
  fid, score = parse_one("fid50k_full"), parse_one("is50k")
  made = {"data_hash": "a", "weights_hash": {"inception": "b"}}
  assert protocols.best_row([], fid, like=made) is None
  numbers = [(1, 3, 3), (2, 1, 1), (3, 2, 3), (2, 4, 1), (4, math.nan, 0)]
  rows = [
    {"step": step, "fid50k_full": a, "is50k": b, **made}
    for step, a, b in numbers
  ]
  # With other weights, and without a hash.
  others = {"data_hash": "a", "weights_hash": {"inception": "b-bfloat16"}}
  rows.append({"step": 5, "fid50k_full": 0, "is50k": 9, **others})
  rows.append({"step": 6, "fid50k_full": 0, "is50k": 9})
  rows.append({"step": 7, "kid50k": 0, **made})
  assert protocols.best_row(rows, fid, like=made)["step"] == 3
  assert protocols.best_row(rows, score, like=made)["step"] == 1


def test_evaluating_all_checkpoints(config, prepared, weights, tmp_path):
  """The command; the numbers do not depend on the number of devices."""
  params, state = weights
  workdir = tmp_path / "run"
  saved.save_config(config, workdir)
  with checkpoint.Checkpoints(workdir / "checkpoints") as checkpoints:
    for step in (1, 2):
      scaled = jax.tree.map(lambda x, step=step: x * step, params)
      tree = {"ema_params": scaled, "ema_state": state}
      checkpoints.save(step, tree)
  flags = (f"--workdir={workdir}", f"--metrics={NAMES}", "--all_steps")
  refused = evaluate_command(*flags, code=2)
  data_dir = f"--data_dir={config.dataset.data_dir}"
  assert f"if it may be written to, add {data_dir}\n" in refused.stderr
  command = evaluate_command(*flags, data_dir)
  printed = [json.loads(line) for line in command.stdout.splitlines()]
  rows = (workdir / "metrics.jsonl").read_text().splitlines()
  assert printed == [json.loads(row) for row in rows]
  assert [row["step"] for row in printed] == [1, 2]
  evaluator = metrics.Evaluator(
    config, prepared, metrics.Extractors(user=EXTRACTOR), NAMES
  )
  generator = trained.load_generator(workdir, 2)
  values = evaluator.evaluate(generator.params, generator.state)
  for name, value in values.items():
    np.testing.assert_allclose(printed[1][name], value, rtol=1e-4)
