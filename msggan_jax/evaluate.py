r"""Compute metrics of a run's checkpoints, or of two sets of images.

  python -m msggan_jax.evaluate --workdir=runs/demo \
    --metrics=fid50k_full,kid50k_full --inception=FILE
  python -m msggan_jax.evaluate --reals=DIR --fakes=DIR

Without Inception's weights use fd_efficientnet_lite0_10k_full and the like. The
results of a run are also appended to its metrics.jsonl.
"""

import time
from pathlib import Path

from absl import flags, logging

from msggan_jax.runtime import cli

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.")
_REALS = flags.DEFINE_string(
  "reals", None, "Folder, zip or prepared set of real images."
)
_FAKES = flags.DEFINE_string(
  "fakes", None, "Folder, zip or prepared set of generated images."
)
_METRICS = flags.DEFINE_string(
  "metrics",
  "",
  "Names with commas, such as fid50k_full,fid50k_official,kid50k_full,is50k,"
  "pr50k_full,fid50k_full/64,fd_efficientnet_lite0_10k_full; for two folders "
  "also without a number. Default: a Frechet and a kernel distance; a kernel "
  "distance to as many reals of 10 to 999 fakes in a folder.",
)
_INCEPTION = flags.DEFINE_string(
  "inception",
  "",
  "Inception's weights, pt_inception-2015-12-05-6726825d.pth; default: the "
  "run's inception_path.",
)
_EXTRACTOR = flags.DEFINE_string(
  "extractor",
  "",
  "module:function of your own, for metrics such as fd_<function>_10k_full.",
)
_BANDS = flags.DEFINE_string(
  "bands",
  "",
  "Channels of values that feature networks see, one, or three as RGB: 3,2,1; "
  "by default the run's config.bands.",
)
_DATA_DIR = flags.DEFINE_string(
  "data_dir",
  "data",
  "Folder of prepared sets; the run's set, its test split, or photos of other "
  "sizes than the fakes', are prepared there if necessary.",
)
_STEP = flags.DEFINE_string(
  "step", "", "A checkpoint's step, or best; by default the newest."
)
_ALL_STEPS = flags.DEFINE_bool("all_steps", False, "Every checkpoint.")
_JSON = cli.define_json("One JSON object a line for each result.")


def main() -> None:
  """Evaluate a run or two sets of images."""
  if bool(_REALS.value) != bool(_FAKES.value):
    raise ValueError("--reals and --fakes belong together: give both")
  if bool(_WORKDIR.value) == bool(_REALS.value):
    raise ValueError("give either --workdir or --reals and --fakes")
  if _REALS.value and (_STEP.value or _ALL_STEPS.value):
    raise ValueError("--step and --all_steps go with --workdir")
  if _ALL_STEPS.value and _STEP.value:
    raise ValueError("give --all_steps or --step, not both")
  output = cli.JsonOutput(_JSON.value)
  if _WORKDIR.value:
    evaluate_run(Path(_WORKDIR.value), output)
    return
  from msggan_jax import metrics

  values, made = metrics.compare(
    _REALS.value,
    _FAKES.value,
    metrics.Extractors(_INCEPTION.value, _EXTRACTOR.value),
    _METRICS.value,
    data_dir=_DATA_DIR.value,
    bands=_BANDS.value,
    progress=True,
  )
  output.show({**values, **made}, [line(_FAKES.value, values)])


def evaluate_run(workdir: Path, output: cli.JsonOutput) -> None:
  """Evaluate checkpoints; print the results and append them to the run."""
  from msggan_jax import data, metrics
  from msggan_jax.checkpoints import checkpoint, trained
  from msggan_jax.config import saved
  from msggan_jax.runtime import jsonl

  config = saved.load_config(workdir)
  config.inception_path = _INCEPTION.value or config.get("inception_path", "")
  config.extractor = _EXTRACTOR.value  # the run's may be somebody else's code
  config.extractor_precision = config.get("extractor_precision", "float32")
  config.metrics = _METRICS.value
  config.bands = _BANDS.value or config.get("bands", "")
  chosen = metrics.choose(config)
  step = cli.parse_step(_STEP.value)
  with checkpoint.Checkpoints(workdir / "checkpoints") as checkpoints:
    checkpoints.find(step)  # before any work
    steps = checkpoints.steps if _ALL_STEPS.value else [step]
  if _BANDS.value and not config.dataset.get("range"):
    raise ValueError(
      f"--bands={_BANDS.value}: {workdir} was trained on pictures"
    )
  prepared = data.open_prepared(
    data.prepare_of_run(config, _DATA_DIR.value, workdir)
  )
  config.dataset.data_dir = _DATA_DIR.value  # of a test split, too
  evaluator = metrics.Evaluator(config, prepared, *chosen, progress=True)
  for step in steps:
    try:
      generator = trained.load_generator(workdir, step)
    except (OSError, ValueError) as error:  # damaged, or deleted by the run
      if not _ALL_STEPS.value:
        raise
      logging.warning("skipped: %s", error)
      continue
    step = generator.step
    began = time.monotonic()
    at_stage = evaluator.at(generator.config.resolution)
    values = at_stage.evaluate(generator.params, generator.state)
    row = at_stage.record(step, values)
    row["secs"] = round(time.monotonic() - began, 3)
    output.show(row, [line(f"step {step}", values)])
    try:  # somebody else's run: the printed number is the result
      jsonl.append(workdir / jsonl.METRICS_FILE, row)
      at_stage.write_sheets(workdir, step)
    except OSError as error:
      logging.warning("the result is only printed: %s", error)


def line(title: str, values: dict[str, float]) -> str:
  """Return numbers as a line for people."""
  numbers = "  ".join(f"{name} {value:.6g}" for name, value in values.items())
  return f"{title}: {numbers}"


if __name__ == "__main__":
  cli.run(main)
