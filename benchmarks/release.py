r"""Put a run's best generator into the package, with a card of its making.

  python -m benchmarks.release --workdir=runs/demo --name=cats_conditional \
      --command="make demo"

Writes NAME.safetensors and NAME.md into msggan_jax/checkpoints/released/, and
replaces older ones. The card's figures are those of the run's own files.
"""

import argparse
import hashlib
import json
import tempfile
from pathlib import Path

from msggan_jax.checkpoints import trained
from msggan_jax.config.saved import by_name, load_config
from msggan_jax.runtime import jsonl
from msggan_jax.sharing import model_card, portable

FOLDER = Path(trained.__file__).parent / "released"
MAX_BYTES = 5_000_000
DEMO_RESOLUTION = 32
_RECIPE = (
  "model pyramid resolution num_classes loss penalty gp_weight r1_gamma "
  "penalty_scales penalty_derivatives optimizer learning_rate burn_in_kimg "
  "batch_size stddev_group combine latent_size base_channels max_channels "
  "ema_kimg ema_kimg_end mirror seed"
).split()


def release(workdir: Path, name: str, command: str) -> Path:
  """Write a run's best generator and its card; return the generator's file.

  The name is that of the run's data, with classes and "_conditional", and with
  a resolution that is not the demo's; `command` says how to repeat the run.
  """
  config = load_config(workdir)
  data_set = config.dataset.name
  expected = f"{data_set}_conditional" if config.num_classes else data_set
  if config.resolution != DEMO_RESOLUTION:
    expected += f"_{config.resolution}"
  if name != expected or data_set not in model_card.DATA:
    raise ValueError(
      f"{workdir} is a generator of {expected}, and those of "
      f"{' and '.join(model_card.DATA)} are released; --name is {name}"
    )
  best = workdir / "best.json"
  if not best.is_file():
    raise FileNotFoundError(f"{best} is missing: the run was never evaluated")
  step = json.loads(best.read_text())["step"]
  with tempfile.TemporaryDirectory() as folder:
    made = Path(folder) / "generator.safetensors"
    portable.export(workdir, made, step)
    content = made.read_bytes()
  if len(content) > MAX_BYTES:
    raise ValueError(
      f"the generator has {len(content):,} bytes, more than {MAX_BYTES:,}"
    )
  path = FOLDER / f"{name}.safetensors"
  path.write_bytes(content)
  text = _card(workdir, name, command, step, hashlib.sha256(content))
  (FOLDER / f"{name}.md").write_text(text)
  return path


def _card(workdir: Path, name: str, command: str, step: int, digest) -> str:
  fields = by_name(load_config(workdir).to_dict())
  row = [
    row for row in jsonl.read(workdir / "stats.jsonl") if row["step"] <= step
  ][-1]
  secs = sum(row[f"secs/{part}"] for part in ("step", "compile", "data"))
  rows = jsonl.read(workdir / jsonl.METRICS_FILE)
  versions = [row["versions"] for row in rows if row["step"] == step][-1]
  card = model_card.read(workdir, step)
  data, license = model_card.DATA[fields["dataset.name"]]
  lines = [
    f"# {name}",
    "",
    f"- Data: {data}, {license}; training split.",
    f"- Trained on {1000 * card.kimg:,.0f} images (step {step}), for "
    f"{secs / 60:.0f} minutes on CPU cores.",
    f"- Reproduce: `{command}`. Other machines round differently, so the "
    "result is alike, not equal.",
    "- Recipe: "
    + ", ".join(
      f"`{field}` {fields[field]}" for field in _RECIPE if field in fields
    )
    + ".",
    "- Versions: " + ", ".join(f"{k} {v}" for k, v in versions.items()) + ".",
    f"- SHA-256 of the file: `{digest.hexdigest()}`.",
    "",
    "| metric | value | protocol |",
    "|---|---|---|",
  ]
  lines += [
    f"| `{metric}` | {value:.4g} | {protocol} |"
    for metric, (value, protocol) in card.metrics.items()
  ]
  return "\n".join(lines) + "\n"


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--workdir", type=Path, required=True)
  parser.add_argument("--name", required=True)
  parser.add_argument("--command", required=True)
  arguments = parser.parse_args()
  try:
    path = release(arguments.workdir, arguments.name, arguments.command)
  except (OSError, ValueError) as error:
    parser.exit(2, f"{error}\n")
  print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
  main()
