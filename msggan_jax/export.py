r"""Export a generator as one file, to share or to run elsewhere.

  python -m msggan_jax.export --workdir=runs/demo --output=demo.safetensors
  python -m msggan_jax.export --workdir=runs/demo --output=demo.stablehlo \
    --format=stablehlo

safetensors holds the EMA weights and the run's configuration without paths;
msggan_jax.load_generator and msggan_jax.sample accept it like a workdir.
stablehlo is for jax.export.deserialize, on CPUs, GPUs and TPUs, onnx for ONNX
runtimes; both run without this package.
web is a folder with a page that draws in a browser, offline. See
docs/export.md.
"""

from pathlib import Path

from absl import flags

from msggan_jax.runtime import cli

_FILES = ("safetensors", "stablehlo", "onnx")  # formats that are their endings

_WORKDIR = flags.DEFINE_string(
  "workdir",
  None,
  "The run's folder; for other formats also a .safetensors file, or cats.",
)
_OUTPUT = flags.DEFINE_string("output", None, "The new file, or folder of web.")
_FORMAT = flags.DEFINE_enum(
  "format",
  "safetensors",
  [*_FILES, "web"],
  "The file's format.",
)
_STEP = flags.DEFINE_string(
  "step", "", "A checkpoint's step, or best; by default the newest."
)
_DISCRIMINATOR = flags.DEFINE_bool(
  "discriminator", False, "safetensors: add the discriminator."
)
_VARIANT = flags.DEFINE_string(
  "variant",
  "",
  "Inputs of MSG-StyleGAN in other formats than safetensors: psi (truncation), "
  "w (instead of z), noise (maps instead of the stored ones), or two of them "
  "with a comma.",
)
flags.mark_flags_as_required(["workdir", "output"])


def main() -> None:
  """Export a run's networks."""
  step = cli.parse_step(_STEP.value)
  output = Path(_OUTPUT.value)
  shares_weights = _FORMAT.value == "safetensors"
  if _VARIANT.value and shares_weights:
    raise ValueError("--variant: safetensors has only weights and no inputs")
  if _DISCRIMINATOR.value and not shares_weights:
    raise ValueError("--discriminator: only --format=safetensors has one")
  ending = f".{_FORMAT.value}"
  if _FORMAT.value in _FILES and output.suffix not in ("", ending):
    raise ValueError(
      f"--output={output}: --format={_FORMAT.value} writes {ending}; the "
      f"formats' endings are .{', .'.join(_FILES)}"
    )
  # Imported late, so that --help and bad flags return at once.
  from msggan_jax.checkpoints import trained
  from msggan_jax.sharing import portable, web

  if shares_weights:
    source = trained.find(_WORKDIR.value)
    if source.is_file():
      raise ValueError(
        f"{source} is a file already: --format=safetensors needs a "
        "run's folder; copy the file, or choose another --format"
      )
    step = portable.export(
      _WORKDIR.value, output, step, with_discriminator=_DISCRIMINATOR.value
    )
    print(f"{output}: step {step}, {_megabytes(output)}")
    return
  if _FORMAT.value == "web":
    if _VARIANT.value:
      raise ValueError("--variant: the inputs of --format=web are fixed")
    web.write(_WORKDIR.value, output, step)
    print(f"{output}: open {output / 'index.html'} in a browser")
    return
  variant = _VARIANT.value.split(",") if _VARIANT.value else []
  lines = portable.write(_WORKDIR.value, output, _FORMAT.value, step, variant)
  print("\n".join([f"{output}: {_megabytes(output)}", *lines]))


def _megabytes(path: Path) -> str:
  return f"{path.stat().st_size / 1e6:.1f} MB"


if __name__ == "__main__":
  cli.run(main)
