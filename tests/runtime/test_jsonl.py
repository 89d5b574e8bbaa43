"""Rows of a file that a kill or a bad disk has damaged."""

from msggan_jax.runtime import jsonl


def test_damaged_rows_are_skipped(tmp_path):
  path = tmp_path / "stats.jsonl"
  assert jsonl.read(path) == []
  path.write_bytes(
    b'{"step": 1}\n[[[\n\xff\xfe\x00\n"text"\n{"step": 2}\n{"step": 3, "d_l'
  )
  assert jsonl.read(path) == [{"step": 1}, {"step": 2}]
  assert [row is None for row in jsonl.scan(path)].count(True) == 4
  jsonl.drop_after(path, 1)
  assert path.read_bytes() == b'{"step": 1}\n'
  path.write_bytes(b'{"step": 1}\n{"step": 2, "d_l')
  jsonl.append(path, {"step": 2})
  jsonl.append(path, {"step": 3})
  assert [row["step"] for row in jsonl.read(path)] == [1, 2, 3]
  path.write_text("[" * 100_000 + "\n")  # nested too deep
  assert jsonl.read(path) == []
