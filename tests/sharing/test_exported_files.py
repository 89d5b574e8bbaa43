"""Files of other formats, from a .safetensors file."""

import subprocess
import sys

import jax
import jax.export
import numpy as np
import pytest

from msggan_jax.checkpoints import safetensors_file
from msggan_jax.sharing import portable
from tests.sharing.test_stablehlo import check, make_generator


def test_a_file_becomes_another(tmp_path):
  generator = make_generator("stylegan")
  source = tmp_path / "shared.safetensors"
  trees = {safetensors_file.GENERATOR: (generator.params, generator.state)}
  safetensors_file.write(source, generator.config, 7, trees)
  output = tmp_path / "new" / "file"
  lines = portable.write(source, output, "stablehlo", variant=["psi"])
  assert lines == [
    "inputs: z (batch, 6) float32, psi () float32",
    "outputs: image_4x4, image_16x16",
  ]
  z = generator.sample_latents(jax.random.key(0), 2)
  exported = jax.export.deserialize(bytearray(output.read_bytes()))
  check(exported.call(z, np.float32(1)), generator(z))
  content = output.read_bytes()
  with pytest.raises(ValueError, match="exists; choose another --output"):
    portable.write(source, output, "stablehlo")
  assert output.read_bytes() == content


@pytest.mark.parametrize(
  ("flags", "sentence"),
  [
    (["--variant=psi"], "--variant: safetensors has only weights"),
    (["--discriminator", "--format=stablehlo"], "only --format=safetensors"),
    (["--format=pickle"], "--format=pickle"),
  ],
)
def test_flags_that_do_not_fit(flags, sentence):
  command = [sys.executable, "-m", "msggan_jax.export", "--workdir=none"]
  done = subprocess.run(
    [*command, "--output=none", *flags],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 2
  assert len(done.stderr.splitlines()) == 1
  assert sentence in done.stderr
