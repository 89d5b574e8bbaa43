"""Names of protocols, and which of their numbers are compared."""

import math

import pytest

from msggan_jax.metrics import protocols


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
  ):
    protocol = parse_one(name)
    fields = (kind, extractor, num_fakes, draws, resolution)
    assert protocol == protocols.Protocol(name, *fields)
  for has_inception in (True, False):
    protocol = parse_one(protocols.defaults(has_inception, "10k"))
    assert (protocol.extractor == "inception") == has_inception


def test_other_names_are_refused():
  for name in (
    *("", "fid50k_half", "fid_efficientnet_lite0_10k", "fd_inception_10k"),
    *("is50k_full", "copying10k_full", "copying10k_per_class", "fid0k"),
  ):
    with pytest.raises(ValueError, match="no metric|is has no|copying has no"):
      parse_one(name)


def test_the_best_row():
  fid, score = parse_one("fid50k_full"), parse_one("is50k")
  made = {"data_hash": "a", "weights_hash": {"inception": "b"}}
  assert protocols.best_row([], fid, like=made) is None
  others = made | {"weights_hash": {"inception": "b-bfloat16"}}
  numbers = [(1, 3, 3, made), (2, 1, 1, made), (3, 2, 3, made), (2, 4, 1, made)]
  numbers += [(4, math.nan, 0, made), (5, 0, 9, others), (6, 0, 9, {})]
  rows = [
    {"step": step, "fid50k_full": a, "is50k": b, **hashes}
    for step, a, b, hashes in numbers
  ]
  rows.append({"step": 7, "kid50k": 0, **made})
  rows.append({"step": 8, "fid50k_full": 0, "is50k": 9, "bands": "1", **made})
  assert protocols.best_row(rows, fid, like=made)["step"] == 3
  spectrum = parse_one("spectrum1k")  # of all bands
  of_values = [{"step": 9, "spectrum1k": 1, "bands": "1", **made}]
  assert protocols.best_row(of_values, spectrum, like=made)["step"] == 9
  assert protocols.best_row(rows, score, like=made)["step"] == 1
