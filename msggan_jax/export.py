"""Export a run's weights as one .safetensors file, to be given to others.

  python -m msggan_jax.export --workdir=runs/demo --output=demo.safetensors

The file holds the EMA generator and the run's configuration, but no path of
this machine; msggan_jax.load_generator and msggan_jax.sample take it like a
workdir.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from msggan_jax.runtime import cli

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.")
_OUTPUT = flags.DEFINE_string("output", None, "The new file.")
_STEP = flags.DEFINE_string(
  "step", "", "Which checkpoint, a step or best; by default the newest."
)
_DISCRIMINATOR = flags.DEFINE_bool(
  "discriminator", False, "With the discriminator."
)
flags.mark_flags_as_required(["workdir", "output"])


def main(argv: Sequence[str]) -> None:
  """Export as the flags say."""
  del argv
  step = cli.parse_step(_STEP.value)
  output = Path(_OUTPUT.value)
  # Here, so that --help and wrong flags answer at once.
  from msggan_jax.weights import workdirs

  step = workdirs.export(
    _WORKDIR.value, output, step, with_discriminator=_DISCRIMINATOR.value
  )
  print(f"{output}: step {step}, {output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
  cli.run(main)
