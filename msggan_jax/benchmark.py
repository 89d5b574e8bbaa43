r"""Time the training step of a configuration on this machine.

  python -m msggan_jax.benchmark --config=configs/demo.py --steps=20
  python -m msggan_jax.benchmark --config=configs/ffhq.py \
    --config.batch_size=auto --json=speed.json

It needs neither data set nor workdir; --loader also prepares and reads the data
set.
"""

import os

from absl import flags

from msggan_jax.runtime import cli

_CONFIG = cli.define_config()
_STEPS = flags.DEFINE_integer(
  "steps", 10, "Steps to time, after two others.", lower_bound=1
)
_LOADER = flags.DEFINE_bool("loader", False, "Time the data set's loader, too.")
_JSON = cli.define_json("One JSON object.")


def main() -> None:
  """Time the step and print the numbers."""
  output = cli.JsonOutput(_JSON.value)
  # The compilation is timed, too.
  os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
  # Imported late, so that --help and bad flags return at once.
  import jax

  from msggan_jax.config.resolve import resolve
  from msggan_jax.planning import estimate, timing

  config = resolve(
    _CONFIG.value,
    jax.device_count(),
    fits=estimate.fits,
    **cli.config_origin(),
  )
  numbers = timing.measure_step(config, _STEPS.value)
  if _LOADER.value:
    numbers |= timing.measure_loader(config)
    ratio = numbers["loader_images_per_sec"] / numbers["images_per_sec"]
    numbers["loader_to_step"] = ratio
  output.show(numbers, timing.describe(numbers))


if __name__ == "__main__":
  cli.run(main)
