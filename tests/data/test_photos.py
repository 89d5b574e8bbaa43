"""Pictures as cameras and phones write them: formats, colors, sizes, names."""

import io
import struct
import unicodedata

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms

from msggan_jax import data
from msggan_jax.data import image_files, pictures, pixels
from msggan_jax.data.sources import config_of, folder, labels
from tests.data.test_arrays import write

RED = (220, 30, 40)
TURNED = ("AVIF", "JPEG", "PNG", "TIFF", "WEBP")  # formats with EXIF
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
P3_TO_XYZ = [  # its primaries under D50, from Apple's own profile
  (0.51512, 0.24120, -0.00105),
  (0.29198, 0.69225, 0.04189),
  (0.15710, 0.06657, 0.78407),
]


def encoded(kind, image=None, **options):
  file = io.BytesIO()
  (image or Image.new("RGB", (40, 40), RED)).save(file, kind, **options)
  return file.getvalue()


def p3_profile():
  """Return sRGB's profile with the primaries of P3, whose curve is the same."""
  profile = bytearray(SRGB)
  for name, color in zip((b"rXYZ", b"gXYZ", b"bXYZ"), P3_TO_XYZ, strict=True):
    (start,) = struct.unpack_from(">I", profile, profile.index(name) + 4)
    fixed = (round(number * 65536) for number in color)
    struct.pack_into(">3i", profile, start + 8, *fixed)
  return bytes(profile)


def cmyk_profile():
  """Return a profile of inks that print gray: C, M, Y nothing, K black."""
  lightness = [(0 if key else 255) for _ in range(8) for key in (0, 1)]
  table = bytes(x for level in lightness for x in (level, 128, 128))
  unit = struct.pack(">9i", *(65536 * int(i % 4 == 0) for i in range(9)))
  content = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + unit
  content += bytes(range(256)) * 4 + table + bytes(range(256)) * 3
  header = bytearray(SRGB[:128])
  header[8:24] = b"\x02\0\0\0prtrCMYKLab "  # version, class, color spaces
  header += struct.pack(">I4sII", 1, b"A2B0", 144, len(content))
  header[:4] = struct.pack(">I", 144 + len(content))
  return bytes(header) + content


def fitted(content, size=(16, 16), channels=3, crop="center"):
  return pixels.fit(image_files.open_image(content), size, channels, crop)


def color_of(content):
  return fitted(content, (4, 4))[2, 2].tolist()


def test_colors_are_converted_to_srgb():
  p3 = Image.new("RGB", (8, 8), (200, 80, 40))
  profile = p3_profile()
  for content in (
    encoded("PNG", p3, icc_profile=profile),
    encoded("PNG", p3.convert("RGBA"), icc_profile=profile),
    encoded("PNG", p3.quantize(4), icc_profile=profile),
    encoded("TIFF", p3, icc_profile=profile),
  ):
    np.testing.assert_allclose(color_of(content), (216, 69, 17), atol=1)
  assert color_of(encoded("PNG", p3)) == [200, 80, 40]
  for useless in (SRGB, b"damaged", profile[:200], cmyk_profile()):
    content = encoded("PNG", p3, icc_profile=useless)
    assert color_of(content) == [200, 80, 40]
  # Without a profile these inks are green.
  inks = Image.new("CMYK", (8, 8), (255, 0, 255, 0))
  np.testing.assert_allclose(color_of(encoded("TIFF", inks)), (0, 255, 0))
  content = encoded("TIFF", inks, icc_profile=cmyk_profile())
  np.testing.assert_allclose(color_of(content), (255,) * 3, atol=2)


def make_files():
  """Return contents by name, and a part of the reason of the unusable ones."""
  pillow_heif.register_heif_opener()
  heic = encoded("HEIF")
  dng = encoded("TIFF", tiffinfo={50706: b"\1\4\0\0"})
  raw = encoded("TIFF", tiffinfo={254: 1})
  cr2 = encoded("TIFF")
  cr2 = cr2[:8] + b"CR" + cr2[10:]
  contents = {
    "1.heic": (heic, ""),
    "2": (encoded("JPEG"), ""),
    "3.0001": (encoded("PNG"), ""),
    "4.jpg": (heic, ""),
    "5.dat": (encoded("WEBP"), ""),
    "a.dng": (dng, "raw photo"),
    "b.nef": (raw, "raw photo"),
    "c.jpg": (b"\xff\x0a" + bytes(50), "JPEG XL"),
  }
  others = {
    "1.CR2": (cr2, image_files._RAW),
    "2.CR3": (b"\0\0\0\x18ftypcrx " + bytes(9), image_files._RAW),
    "3.jxl": (b"\xff\x0a", "JPEG XL is not read: convert it to PNG"),
    "4.npy": (
      b"\x93NUMPY\1\0",
      "a NumPy array needs its range: add --range=LOW:HIGH",
    ),
    "5": (bytes(128) + b"DICM", "DICOM needs its range: add --range=LOW:HIGH"),
    "6.zip": (b"PK\3\4", "an archive is not opened: unpack it"),
    "notes.txt": (b"no image", "not an image"),
    "x/unknown.bin": (b"P5 or so", "not an image"),
    "x/empty": (b"", "not an image"),
    "x/.hidden.png": (encoded("PNG"), "hidden"),
  }
  return contents, others


@pytest.mark.parametrize("kind", ["photos", "b:c.zip"])
def test_files_are_known_by_content_and_none_vanishes(tmp_path, kind):
  contents, others = make_files()
  everything = contents | others | {".git/x/1.png": (b"", "")}
  path = write(tmp_path / kind, {k: x for k, (x, _) in everything.items()})
  config = config_of(str(path), 16)
  with folder.open_folder(config.dataset, 16) as source:
    assert source.names == sorted(contents, key=folder._natural_key)
    assert dict(source.unread) == {
      **{name: reason for name, (_, reason) in others.items()},
      ".git": "hidden",
    }
    for index, name in enumerate(source.names):
      content, reason = contents[name]
      assert source.num_bytes(index) == len(content)
      if reason:
        with pytest.raises(ValueError, match=reason):
          source.load(index)
      else:
        assert source.load(index)[0].size == (40, 40)


def test_heic_without_its_package_says_what_to_install(monkeypatch):
  known = {k: v for k, v in image_files._openers().items() if k != "HEIF"}
  monkeypatch.setattr(image_files, "_openers", lambda: known)
  heic = make_files()[0]["1.heic"][0]
  assert "pip install" in image_files.why_unread(heic[: image_files.HEAD_BYTES])
  with pytest.raises(ValueError, match=r"pip install 'msggan_jax\[heic\]'"):
    image_files.open_image(heic)


def test_large_jpegs_are_reduced_while_they_are_decoded(monkeypatch):
  monkeypatch.setattr(pixels, "MOST_BYTES", 2**20)
  image = Image.new("L", (1632, 1224), 90)  # 8 MB
  assert color_of(encoded("JPEG", image)) == [90] * 3
  with pytest.raises(ValueError, match="too large: 1632x1224 pixels take"):
    color_of(encoded("PNG", image))
  small = encoded("JPEG", progressive=True)
  frame = small.index(b"\xff\xc2") + 5
  huge = small[:frame] + struct.pack(">HH", 65000, 65000) + small[frame + 4 :]
  with pytest.raises(ValueError, match="too large: 65000x65000 pixels take"):
    color_of(huge)


def test_names_match_however_accents_are_written(tmp_path):
  composed, decomposed = (
    unicodedata.normalize(form, "Kätzchen/é 1.png") for form in ("NFC", "NFD")
  )
  assert composed != decomposed
  for name, row in ((composed, decomposed), (decomposed, composed)):
    table = f"file,label\n{row},Löwe\n".encode()
    assert labels.read(labels.CSV, [name], lambda _, table=table: table) == (
      ("Löwe",),
      {name: 0},
    )
    found = labels.read(
      labels.FOLDERS, [name, "Kuh/2.png"], lambda _: pytest.fail("not read")
    )
    assert found.class_names == ("Kätzchen", "Kuh")
  order = ["e2.png", "é1.png", "f.png"]
  for form in ("NFC", "NFD"):
    names = [unicodedata.normalize(form, name) for name in order]
    expected = [names[0], names[2], names[1]]
    assert sorted(names, key=folder._natural_key) == expected


def test_what_our_commands_write_is_no_image_of_a_source(tmp_path):
  names = (
    *("1.png", "a/2.png", "runs/cats/reals.png"),
    *("runs/cats/samples/32x32/1.png", "images/32x32/seed0000.png"),
    *("images/32x32/seed0001.png", "scans/8x8/seed0000.tif"),
  )
  path = write(tmp_path / "photos", dict.fromkeys(names, encoded("PNG")))
  (path / "runs/cats/config.json").write_text("{}")
  config = config_of(str(path), 16)
  data.prepare(config, output=path / "data/set")
  with folder.open_folder(config.dataset, 16) as source:
    assert source.names == ["1.png", "a/2.png"]
    assert dict(source.unread) == {
      "runs/cats": "a run, no images of this source",
      "data/set": "a prepared set, no images of this source",
      "images/32x32": "samples of a generator, no images of this source",
      "scans/8x8": "samples of a generator, no images of this source",
    }
  # A folder of nothing but samples is what somebody wants to read.
  sheet = path / "images" / "grid_32x32.png"
  pictures.save_sheet(np.zeros((8, 8, 3), np.uint8), sheet)
  write(path / "images", {"interpolate.webp": encoded("WEBP")})
  samples = config_of(str(path / "images"), 16)
  with folder.open_folder(samples.dataset, 16) as source:
    assert source.names == ["32x32/seed0000.png", "32x32/seed0001.png"]
    assert dict(source.unread) == {
      "grid_32x32.png": "a sheet or video of samples",
      "interpolate.webp": "a sheet or video of samples",
    }


def test_every_format_shows_the_same_picture():
  picture = Image.new("RGB", (48, 32), "blue")
  picture.paste("red", (0, 0, 24, 32))
  turned, exif = picture.transpose(Image.Transpose.ROTATE_90), Image.Exif()
  exif[0x0112] = 6  # shown after 90 degrees clockwise
  frames = {"save_all": True, "append_images": [Image.new("RGB", (48, 32))]}
  for kind, image, options in (
    ("PNG", picture.quantize(8), {}),
    ("JPEG", picture.convert("CMYK"), {"quality": 95}),
    ("JPEG", picture.resize((960, 640), Image.Resampling.NEAREST), {}),
    ("WEBP", picture, {"lossless": True}),
    ("GIF", picture, frames),
    ("TIFF", picture, {"compression": "tiff_lzw"}),
    *((kind, turned, {"exif": exif.tobytes()}) for kind in TURNED),
  ):
    opened = image_files.open_image(encoded(kind, image, **options))
    width, height = pixels.upright_size(opened)
    assert width > height, kind
    left, right = pixels.fit(opened, (16, 16), 3, "center")[8, [4, 12]]
    np.testing.assert_allclose(left, (255, 0, 0), atol=6)
    np.testing.assert_allclose(right, (0, 0, 255), atol=6)


def test_transparency_is_composited_over_white():
  rgba, gray, keyed = (
    Image.new(mode, (32, 32), color)
    for mode, color in (("RGBA", 0), ("LA", 0), ("RGB", (1, 2, 3)))
  )
  for image, color in ((rgba, (*RED, 255)), (gray, (90, 255)), (keyed, RED)):
    image.paste(color, (0, 0, 16, 32))
  for content, color in (
    (encoded("PNG", rgba), RED),
    (encoded("PNG", rgba.quantize(8)), RED),  # a palette with transparency
    (encoded("PNG", gray), (90, 90, 90)),
    (encoded("PNG", keyed, transparency=(1, 2, 3)), RED),
  ):
    left, right = fitted(content)[8, [4, 12]].tolist()
    np.testing.assert_allclose(left, color, atol=6)
    assert right == [255, 255, 255]
  left, right = fitted(encoded("PNG", rgba), channels=4)[8, [4, 12]].tolist()
  assert left == [*RED, 255] and right[3] == 0
  found = fitted(encoded("PNG", gray), channels=1)
  assert found.shape == (16, 16, 1)
  assert found[8, [4, 12], 0].tolist() == [90, 255]


def test_sixteen_bits_keep_their_range():
  ramp = np.linspace(0, 65535, 32).astype(np.uint16)
  content = encoded("PNG", Image.fromarray(np.tile(ramp, (32, 1))))
  np.testing.assert_allclose(
    fitted(content, (32, 32))[5], np.tile(ramp[:, None] / 257, 3), atol=0.5
  )


def test_large_reductions_do_not_alias():
  # One-pixel stripes: plain subsampling would give black or white.
  stripes = np.zeros((512, 512, 3), np.uint8)
  stripes[:, ::2] = 255
  small = pixels.fit(Image.fromarray(stripes), (16, 16), 3, "center")
  np.testing.assert_allclose(small[2:-2, 2:-2].astype(int), 127.5, atol=3)


def test_center_crop_and_pad_never_squash():
  image = Image.new("RGB", (96, 32), "green")
  image.paste("red", (0, 0, 32, 32))
  image.paste("blue", (64, 0, 96, 32))
  cropped = pixels.fit(image, (32, 32), 3, "center")
  np.testing.assert_array_equal(cropped, np.full((32, 32, 3), (0, 128, 0)))
  padded = pixels.fit(image, (48, 48), 3, "pad")
  assert (padded[:16] == 255).all() and (padded[32:] == 255).all()
  for column, color in ((7, (255, 0, 0)), (24, (0, 128, 0)), (40, (0, 0, 255))):
    np.testing.assert_allclose(padded[24, column].astype(int), color, atol=2)
  wide = pixels.fit(image, (24, 48), 3, "center")
  np.testing.assert_allclose(
    wide[12, ::47].astype(int), [(255, 0, 0), (0, 0, 255)], atol=2
  )
  with pytest.raises(ValueError, match="too small: 96x32"):
    pixels.fit(image, (48, 32), 3, "center")  # not if it were turned
  assert (pixels.fit(image, (24, 48), 3, "pad")[[0, 3, 20, 23]] == 255).all()
  transparent = pixels.fit(image, (48, 48), 4, "pad")
  assert (transparent[:16, :, 3] == 0).all()
  assert (transparent[16:32, :, 3] == 255).all()


def test_a_tiff_of_several_pages_says_which_is_used(tmp_path, monkeypatch):
  page = Image.new("RGB", (40, 40), RED)
  options = {"save_all": True, "append_images": [page] * 7}
  (tmp_path / "scan.tif").write_bytes(encoded("TIFF", page, **options))
  notes = []
  monkeypatch.setattr(
    folder.logging,
    "log_first_n",
    lambda level, text, most, *values: notes.append(text % values),
  )
  config = config_of(str(tmp_path), 16)
  with folder.open_folder(config.dataset, 16) as source:
    assert source.load(0)[0].size == (40, 40)
  assert notes == ["scan.tif: page 1 of 8 is used"]
