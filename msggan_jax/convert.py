r"""Convert weight files of a public version of MSG-GAN to a workdir.

  python -m msggan_jax.convert --source=bmsg-gan \
    --generator=GAN_GEN_SHADOW_1.pth --discriminator=GAN_DIS_1.pth --workdir=DIR
  python -m msggan_jax.convert --source=msg-stylegan-tf \
    --generator=network-final.pkl --workdir=DIR

The workdir holds a run at step 0, to sample from and to train further. It names
no data set: evaluate its samples as a folder, with --reals and --fakes.
Nothing in a weight file is executed.
"""

from pathlib import Path

from absl import flags

from msggan_jax.runtime import cli

_SOURCE = flags.DEFINE_enum(
  "source",
  None,
  ["bmsg-gan", "msg-gan-v1", "msg-stylegan-tf"],
  "The code that wrote the files.",
)
_GENERATOR = flags.DEFINE_string(
  "generator",
  None,
  "The generator's .pth, or msg-stylegan-tf's .pkl with all networks.",
)
_DISCRIMINATOR = flags.DEFINE_string(
  "discriminator",
  None,
  "The discriminator's .pth; without it, D starts untrained.",
)
_WORKDIR = flags.DEFINE_string("workdir", None, "A new folder for the run.")
flags.mark_flags_as_required(["source", "generator", "workdir"])


def main() -> None:
  """Convert the weight files."""
  # Imported late, so that --help and bad flags return at once.
  from msggan_jax.sharing.foreign import conversion

  weights = conversion.read(
    _SOURCE.value, _GENERATOR.value, _DISCRIMINATOR.value
  )
  preset = conversion.PRESETS[_SOURCE.value]
  conversion.write(weights, preset, Path(_WORKDIR.value))
  print(f"{_WORKDIR.value}: {_SOURCE.value} at step 0")
  if weights.discriminator is None:
    print("the discriminator is untrained: no --discriminator was given")
  command = cli.command(
    "main",
    f"--config=configs/default.py:{preset}",
    *(f"--config.{name}={value}" for name, value in weights.fields.items()),
    f"--workdir={_WORKDIR.value}",
  )
  print(f"to train it further: {command}, and a data set")


if __name__ == "__main__":
  cli.run(main)
