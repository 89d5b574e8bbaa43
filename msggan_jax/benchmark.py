r"""Time the training step of a configuration on this machine.

  python -m msggan_jax.benchmark --config=configs/demo.py --steps=20
  python -m msggan_jax.benchmark --config=configs/ffhq.py \
    --config.batch_size=auto --json=speed.json

It needs neither data set nor workdir.
"""

import os

from absl import flags

from msggan_jax.runtime import cli

_CONFIG = cli.define_config()
_STEPS = flags.DEFINE_integer(
  "steps", 10, "Steps to time, after two others.", lower_bound=1
)
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
  output.show(numbers, timing.describe(numbers))


if __name__ == "__main__":
  cli.run(main)
