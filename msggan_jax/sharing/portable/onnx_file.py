"""Generators as ONNX, through jax2onnx, which has an environment of its own."""

import importlib.util

import jax
import jax.export
import jax.numpy as jnp

from msggan_jax.sharing.portable.functions import Function, Input


def check_installed(format: str = "onnx") -> None:
  """Raise FileNotFoundError if jax2onnx, which `format` needs, is missing."""
  if importlib.util.find_spec("jax2onnx") is None:
    raise FileNotFoundError(
      f"--format={format} needs jax2onnx, in an environment of its own: "
      "make onnx, then .venv-onnx/bin/python -m msggan_jax.export with the "
      "same flags"
    )


def serialize(function: Function) -> bytes:
  """Return a function as an ONNX model of any batch size."""
  check_installed()
  import jax2onnx  # pyrefly: ignore[missing-import]

  (batch,) = jax.export.symbolic_shape("batch")

  def abstract(each: Input) -> jax.ShapeDtypeStruct:
    shape = (batch, *each.shape) if each.batched else each.shape
    return jax.ShapeDtypeStruct(shape, jnp.dtype(each.dtype))

  model = jax2onnx.to_onnx(
    function.call,
    inputs=[abstract(each) for each in function.inputs],
    input_names=[each.name for each in function.inputs],
    output_names=list(function.outputs),
    model_name=function.name,
  )
  return model.SerializeToString()
