"""Generators as a folder with a page that draws in a browser, offline."""

import base64
import hashlib
import json
from pathlib import Path

import jax
import numpy as np

from msggan_jax import models
from msggan_jax.checkpoints import safetensors_file, trained
from msggan_jax.data import pictures
from msggan_jax.models import base_grid
from msggan_jax.runtime.files import replacing
from msggan_jax.sharing import model_card, portable

RUNTIME = Path(".onnxruntime-web")  # `make web` writes it
_PAGE = Path(__file__).parent / "page"
_PAGE_FILES = ("index.html", "page.css", "latents.js", "page.js")
_HASHES = {
  "ort.wasm.min.js": (
    "faece07e84faa9001f5104bbe4e5c70861d06cb2376a0dea1fa0ad33a67adc81"
  ),
  "ort-wasm-simd-threaded.mjs": (
    "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b"
  ),
  "ort-wasm-simd-threaded.wasm": (
    "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2"
  ),
}


def write(
  source: str | Path, output: Path, step: int | str | None = None
) -> None:
  """Write a folder with a page that draws a generator's images.

  `source` and `step` are those of `trained.load_generator`.
  """
  safetensors_file.check_free(output)
  portable.check_jax2onnx("web")
  runtime = _read_runtime()
  generator = trained.load_generator(source, step)
  if (grid := generator.config.base_grid) != base_grid.SQUARE:
    raise ValueError(
      f"the page draws square images; this generator's base_grid is {grid}: "
      "choose another --format"
    )
  channels, is_values = generator.config.channels, generator.value_range
  is_tiled = pictures.tiles_per_side(channels, colors=not is_values) > 1
  if is_tiled and not generator.bands:
    raise ValueError(
      f"the page draws gray, RGB or RGBA; this generator has {channels} "
      "channels of values and no config.bands: choose another --format"
    )
  files = {name: (_PAGE / name).read_bytes() for name in _PAGE_FILES}
  files["ort.js"] = runtime["ort.wasm.min.js"]
  wasm = {
    end: _base64(runtime[f"ort-wasm-simd-threaded.{end}"])
    for end in ("mjs", "wasm")
  }
  files["runtime.js"] = _script("RUNTIME", wasm)
  described = []
  for segment in portable.segments(generator):
    title, model = segment.name, portable.to_onnx(segment)
    inputs = [[name, *x.shape[1:]] for name, x in segment.inputs.items()]
    digest = hashlib.sha256(model).hexdigest()
    images = [name for name in segment.outputs if name.startswith("image_")]
    described.append(
      {"name": title, "inputs": inputs, "images": images, "hash": digest}
    )
    text = f'SEGMENTS["{title}"] = "{_base64(model)}";\n'
    files[f"{title}.js"] = text.encode()
  config = generator.config
  card = model_card.read(source, generator.step)
  model = {
    "latentSize": config.latent_size,
    "normalize": config.normalize_latents,
    "channels": config.channels,
    "bands": generator.bands,
    "classes": generator.class_names or [*range(config.num_classes)],
    "stylegan": portable.is_stylegan(generator),
    "segments": described,
    "card": _rows(generator, card),
    "pairs": _base64(card.pairs),
  }
  files["model.js"] = _script("MODEL", model)
  output.parent.mkdir(parents=True, exist_ok=True)
  with replacing(output) as temporary:  # completely or not at all
    temporary.mkdir()
    for name, content in files.items():
      (temporary / name).write_bytes(content)


def _read_runtime() -> dict[str, bytes]:
  """Return onnxruntime-web's files after a check of their hashes."""
  contents = {}
  for name, expected in _HASHES.items():
    path = RUNTIME / name
    if not path.is_file():
      raise FileNotFoundError(f"{path} is missing; say make web")
    contents[name] = path.read_bytes()
    if hashlib.sha256(contents[name]).hexdigest() != expected:
      raise ValueError(f"{path} has another SHA-256; remove it, say make web")
  return contents


def _rows(
  generator: trained.Generator, card: model_card.Card
) -> list[list[str]]:
  count = sum(map(np.size, jax.tree.leaves(generator.params)))
  rows = [
    ["Network", models.name_of(generator.config)],
    ["Parameters", f"{count:,}"],
  ]
  what, license = model_card.DATA.get(
    card.data, (card.data, "not recorded; ask who trained it")
  )
  if what:
    rows.append(["Data", what])
  rows.append(["License of the data", license])
  if card.value_range:
    rows.append(["Values", card.value_range.describe()])
  if card.kimg:
    rows.append(["Trained on", f"{1000 * card.kimg:,.0f} images"])
  for name, (value, protocol) in card.metrics.items():
    how = f" ({protocol})" if protocol else ""
    rows.append([name, f"{value:.4g}{how}"])
  return rows


def _base64(content: bytes) -> str:
  return base64.b64encode(content).decode()


def _script(name: str, value: dict) -> bytes:
  return f"const {name} = {json.dumps(value)};\n".encode()
