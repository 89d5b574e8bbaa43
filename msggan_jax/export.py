"""Export a run's weights as one .safetensors file, to share.

  python -m msggan_jax.export --workdir=runs/demo --output=demo.safetensors

The file holds the EMA generator and the run's configuration without paths.
msggan_jax.load_generator and msggan_jax.sample accept it like a workdir.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from msggan_jax.runtime import cli

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.")
_OUTPUT = flags.DEFINE_string("output", None, "The new file.")
_STEP = flags.DEFINE_string(
  "step", "", "A checkpoint's step, or best; by default the newest."
)
_DISCRIMINATOR = flags.DEFINE_bool(
  "discriminator", False, "Add the discriminator."
)
flags.mark_flags_as_required(["workdir", "output"])


def main(argv: Sequence[str]) -> None:
  """Export a run's networks."""
  del argv
  step = cli.parse_step(_STEP.value)
  output = Path(_OUTPUT.value)
  # Imported late, so that --help and bad flags return at once.
  from msggan_jax.weights import workdirs

  step = workdirs.export(
    _WORKDIR.value, output, step, with_discriminator=_DISCRIMINATOR.value
  )
  print(f"{output}: step {step}, {output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
  cli.run(main)
