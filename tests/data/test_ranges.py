"""Ranges of values: parsed, stored, described and compared."""

import pytest

from msggan_jax.data import values


def test_ranges_agree_to_the_digits_that_are_printed():
  auto = values.Range((0.12345678,), (2 / 3,), ("",))
  bounds = values.parse(auto.describe().replace(" to ", ":") + "m", 1).bounds
  low, high, units = zip(*bounds, strict=True)
  typed = values.Range(low, high, units, "uint16")
  assert auto != typed and auto.agrees(typed)
  assert not typed.agrees(values.Range(low, high, ("km",)))
  assert not auto.agrees(values.Range(low, (0.66668,), ("",)))
  assert not auto.agrees(values.Range(low * 2, high * 2, ("", "")))


def test_ranges_are_parsed_stored_and_described():
  wanted = values.parse("-1e3:3000HU", 2)
  assert wanted.bounds == [(-1000, 3000, "HU")] * 2
  assert values.parse("auto:0.1", 1).percent == 0.1
  assert values.window("400:40") == "-160:240HU"
  with pytest.raises(ValueError, match="WIDTH:LEVEL"):
    values.window("400")
  made = values.Range((0.0, 1.0), (2.0, 3.0), ("m", ""), "uint16")
  assert values.from_dict(made.as_dict(), 2) == made
  assert made.describe() == "channel 1: 0 to 2 m, channel 2: 1 to 3"
  for change in (
    {"low": [0.0]},
    {"low": [5, 1]},
    {"high": [float("inf"), 3]},
    {"units": ["\n", ""]},
    {"dtype": "object"},
  ):
    assert values.from_dict(made.as_dict() | change, 2) is None
  assert values.from_dict([], 2) is None
