"""A run killed at random instants ends as one that was left alone."""

import pytest

from tests.runs import chaos


@pytest.mark.parametrize(
  ("processes", "faults", "seed"),
  [
    (1, 1, 3),  # killed
    pytest.param(1, 50, 1, marks=pytest.mark.slow),
    pytest.param(4, 12, 2, marks=pytest.mark.slow),
  ],
)
def test_faults_change_nothing(tmp_path, processes, faults, seed):
  chaos.meet(tmp_path, processes, faults, seed)
  chaos.finish_and_compare(tmp_path, processes)
