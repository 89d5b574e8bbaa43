"""The page that draws a generator's images, in a browser without a network."""

import contextlib
import json
import re
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from msggan_jax.checkpoints import trained
from msggan_jax.sharing import portable, web
from tests.sharing.test_portable import (
  PYTHON,
  ROOT,
  make_generator,
  run,
  write_shared,
)

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

READ = """return Object.fromEntries(
  [...document.querySelectorAll("canvas")].map((c) => [c.id, [...c.getContext(
    "2d").getImageData(0, 0, c.width, c.height).data]]))"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
def test_the_page_draws_normal_repeatable_latents():
  script = (web._PAGE / "latents.js").read_text()
  script += """
  const MODEL = { latentSize: 4096, normalize: true };
  console.log(JSON.stringify([
    normals(3, 4096), normals(3, 64), normals(4294967294, 4096),
    [...latents(3, 0)], [...latents(3, 1)], [...latents(4, 0)],
    [...noise(5, 3, [4, 4])],
  ]));
  """
  done = run("node", "-e", script)
  assert done.returncode == 0, done.stderr
  z, same, other, *latents, noise = map(np.array, json.loads(done.stdout))
  for numbers in (z, other):
    assert abs(numbers.mean()) < 0.06
    assert abs(numbers.std() - 1) < 0.04
  np.testing.assert_array_equal(z[:64], same)
  assert abs(np.corrcoef(z, other)[0, 1]) < 0.06
  factor = 64 / np.linalg.norm(z)
  np.testing.assert_allclose(latents[0], factor * z, atol=1e-6)
  np.testing.assert_allclose(latents[1], latents[2], atol=1e-6)
  assert noise.shape == (16,)


def test_without_the_runtime_one_sentence_names_the_command(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(web.portable, "check_jax2onnx", lambda _: None)
  monkeypatch.setattr(web, "RUNTIME", tmp_path / "none")
  source = write_shared(make_generator("progan"), tmp_path / "a.safetensors")
  with pytest.raises(FileNotFoundError, match="is missing; say make web"):
    web.write(source, tmp_path / "page")
  (tmp_path / "none").mkdir()
  (tmp_path / "none/ort.wasm.min.js").write_text("changed")
  with pytest.raises(ValueError, match="has another SHA-256"):
    web.write(source, tmp_path / "page")
  assert not (tmp_path / "page").exists()
  (tmp_path / "page").mkdir()
  with pytest.raises(ValueError, match="exists"):
    web.write(source, tmp_path / "page")


@pytest.fixture(
  scope="module",
  params=["progan", "pooled", "residual", "labels", "stylegan"],
  name="exported",
)
def fixture_exported(request, tmp_path_factory):
  if not PYTHON.exists() or not (ROOT / web.RUNTIME).exists():
    pytest.skip("make onnx web")
  folder = tmp_path_factory.mktemp("web")
  fields = {
    "progan": {"connected_scales": "all"},
    "pooled": {"pyramid": "pooled"},
    "residual": {},
    "labels": {"num_classes": 3, "channels": 1},
    "stylegan": {"num_classes": 3},
  }[request.param]
  is_progan = request.param in ("pooled", "labels")
  model = "progan" if is_progan else request.param
  generator = make_generator(model, **fields)
  source = write_shared(generator, folder / "a.safetensors")
  flags = [f"--workdir={source}", "--format=web", f"--output={folder / 'page'}"]
  done = run(PYTHON, "-m", "msggan_jax.export", *flags)
  assert done.returncode == 0, done.stderr
  return folder / "page", trained.load_generator(source)


def draw(driver, generator, seed, label=0, psi=1.0, style=None, noise=0):
  """Return the images of the page's random numbers, as 8-bit RGB."""
  config = generator.config
  labels = [label] if config.num_classes else None

  def numbers(script, *arguments):
    drawn = driver.execute_script(f"return [...{script}]", *arguments)
    return np.array(drawn, np.float32)

  given = [
    numbers("latents(arguments[0], 0)", each)[None]
    for each in (seed, seed if style is None else style)
  ]
  if config.model != "stylegan":
    pyramid = generator(jnp.asarray(given[0]), labels)
  else:
    w = [
      generator.truncate(generator.map_latents(jnp.asarray(z), labels), psi)
      for z in given
    ]
    w = jnp.concatenate([w[0][:, :4], w[1][:, 4:]], axis=1)  # from 16x16
    maps = []
    for layer in range(w.shape[1]):
      side = 4 * 2 ** (layer // 2)
      drawn = numbers("noise(...arguments)", noise, layer, [side, side])
      maps.append(jnp.asarray(drawn.reshape(1, side, side)))
    call = portable.whole(generator, ["w", "noise"]).call
    pyramid = call(w, *maps)
  return {
    portable.image_name(scale.shape[1]): np.clip(
      np.round((np.asarray(scale[0]) + 1) * 127.5), 0, 255
    )
    for scale in pyramid
  }


@contextlib.contextmanager
def opened(page, width=1280):
  """Open a page in Chromium without a network."""
  webdriver = pytest.importorskip("selenium.webdriver")
  if BROWSER is None or DRIVER is None:
    pytest.skip("needs chromium and chromedriver")
  options = webdriver.ChromeOptions()
  options.binary_location = BROWSER
  for flag in ("--headless=new", "--no-sandbox", "--disable-gpu"):
    options.add_argument(flag)
  options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND")
  options.add_argument(f"--window-size={width},1200")
  options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
  service = webdriver.ChromeService(DRIVER)
  driver = webdriver.Chrome(options=options, service=service)
  try:
    driver.set_script_timeout(600)
    driver.get((page / "index.html").as_uri())
    yield driver
  finally:
    driver.quit()


def settle(driver, script=""):
  """Run a script, wait until the page has drawn; return the canvases."""
  driver.execute_async_script(
    f"const done = arguments[0]; {script}; queue.then(() => queue).then(done)"
  )
  return driver.execute_script(READ)


def assert_drawn(canvases, expected):
  assert set(canvases) == set(expected)
  for name, want in expected.items():
    got = np.array(canvases[name]).reshape(*want.shape[:2], 4)
    assert np.abs(got[..., :3] - want).max() <= 1, name
    assert (got[..., 3] == 255).all()


@pytest.mark.slow
def test_a_browser_draws_the_same_images(exported):
  page, generator = exported
  conditional, stylegan = (
    bool(generator.config.num_classes),
    generator.config.model == "stylegan",
  )
  at_once = generator.config.pyramid == "pooled"
  with opened(page) as driver:
    canvases = settle(driver)
    assert ("image_16x16" in canvases) == at_once
    sources = "return [...document.scripts].map((s) => s.getAttribute('src'))"
    loaded = driver.execute_script(sources)
    assert ("scale_4x4.js" in loaded) != at_once
    assert ("scale_16x16.js" in loaded) == at_once
    while driver.find_element("id", "grow").is_enabled():
      canvases = settle(driver, "byId('grow').click()")
    assert_drawn(canvases, draw(driver, generator, 0))
    values, expected = {"seed": 7}, {"seed": 7}
    if conditional:
      values["class"] = expected["label"] = 2
    if stylegan:
      expected |= {"psi": 0.5, "style": 9, "noise": 4}
      values |= {"psi": 0.5, "style": 9, "noise": 4}
    sets = [f"byId('{id}').value = {value}" for id, value in values.items()]
    canvases = settle(driver, "; ".join([*sets, "update()"]))
    assert_drawn(canvases, draw(driver, generator, **expected))
    status = driver.find_element("id", "status").text
    assert status == "All scales are drawn."
    hashes = driver.find_element("id", "hashes").text
    assert (
      len(re.findall(r"[0-9a-f]{64} agrees", hashes)) == hashes.count("\n") + 1
    )
    assert driver.get_log("browser") == []


@pytest.mark.slow
def test_a_damaged_part_is_refused_aloud(exported, tmp_path):
  page = shutil.copytree(exported[0], tmp_path / "page")
  at_once = exported[1].config.pyramid == "pooled"
  part = page / ("scale_16x16.js" if at_once else "scale_4x4.js")
  text = part.read_text()
  part.write_text(text[:-60] + ("A" if text[-60] != "A" else "B") + text[-59:])
  with opened(page) as driver:
    assert settle(driver) == {}
    status = driver.find_element("id", "status").text
    assert status == f"Stopped: {part.name} is damaged"
