"""Write a run's networks, or a generator, to a file of a format."""

from collections.abc import Callable, Sequence
from pathlib import Path

from msggan_jax.checkpoints import safetensors_file, trained, workdirs
from msggan_jax.sharing import model_card
from msggan_jax.sharing.portable import functions, onnx_file, stablehlo

_SERIALIZERS: dict[str, Callable[[functions.Function], bytes]] = {
  "onnx": onnx_file.serialize,
  "stablehlo": stablehlo.serialize,
}


def export(
  workdir: str | Path,
  output: Path,
  step: int | str | None = None,
  *,
  with_discriminator: bool = False,
) -> int:
  """Write a run's EMA generator and its card to a safetensors file.

  Args:
    workdir: The run's folder.
    output: The file, which must not exist.
    step: As in `workdirs.load_network`.
    with_discriminator: Whether to add the discriminator.

  Returns:
    The step of the checkpoint.

  Raises:
    FileNotFoundError: If the run or the checkpoint does not exist.
    ValueError: If `output` exists.
  """
  safetensors_file.check_free(output)
  names = [safetensors_file.GENERATOR]
  if with_discriminator:
    names.append(safetensors_file.DISCRIMINATOR)
  config, step, trees = workdirs.load_networks(workdir, step, names)
  card = model_card.to_metadata(model_card.read(workdir, step))
  safetensors_file.write(output, config, step, trees, card)
  return step


def write(
  source: str | Path,
  output: Path,
  kind: str,
  step: int | str | None = None,
  variant: Sequence[str] = (),
) -> list[str]:
  """Write a generator to a new file.

  Args:
    source: A run's folder, or a file of `msggan_jax.export`.
    output: The file, which must not exist.
    kind: Its format, "stablehlo" or "onnx".
    step: As in `trained.load_generator`.
    variant: As in `functions.whole`.

  Returns:
    Lines that describe the inputs and the outputs.

  Raises:
    FileNotFoundError: If the run or the checkpoint does not exist, or jax2onnx
      is missing.
    ValueError: If `output` exists or the variant is impossible.
  """
  safetensors_file.check_free(output)
  if kind == "onnx":
    onnx_file.check_installed()
  generator = trained.load_generator(source, step)
  function = functions.whole(generator, variant)
  safetensors_file.write_new(output, _SERIALIZERS[kind](function))
  inputs = [f"{each.name} {_shape(each)}" for each in function.inputs]
  return [
    f"inputs: {', '.join(inputs)}",
    f"outputs: {', '.join(function.outputs)}",
  ]


def _shape(each: functions.Input) -> str:
  """Return a shape and a type as text, such as (batch, 64) float32."""
  sides = [*(["batch"] if each.batched else []), *map(str, each.shape)]
  return f"({', '.join(sides)}) {each.dtype}"
