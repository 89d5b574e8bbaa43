"""Sources of values: read, checked, stored and restored."""

import contextlib
import gzip
import io
import json
import random
import unittest.mock
import zipfile

import numpy as np
import pytest
from PIL import Image

from msggan_jax import data
from msggan_jax.data import arrays, image_files, pixels, survey, values
from msggan_jax.data.sources import config_of
from msggan_jax.models.pyramid import to_float
from tests.fuzzing import limits, mutate

SIDE = 8


def ramp(dtype, channels, low, high):
  """Return different values from low to high, (SIDE, SIDE, channels)."""
  number = SIDE * SIDE * channels
  numbers = np.linspace(low, high, number)
  if np.dtype(dtype).kind != "f":
    numbers = np.rint(numbers)
  return numbers.reshape(SIDE, SIDE, channels).astype(dtype)


def npy(array):
  file = io.BytesIO()
  np.save(file, array)
  return file.getvalue()


def npz(array):
  file = io.BytesIO()
  np.savez_compressed(file, image=array)
  return file.getvalue()


def tiff(array, **options):
  tifffile = pytest.importorskip("tifffile")
  file = io.BytesIO()
  options = {"photometric": "minisblack", "compression": "zlib"} | options
  if array.shape[-1] > 1:
    options["planarconfig"] = "contig"
  tifffile.imwrite(file, array, **options)
  return file.getvalue()


def png16(array):
  return pixels.encode_png16(array, '{"low": [0]}')


def chw(array):
  return npy(array.transpose(2, 0, 1))


def prepare(path, channels=1, resolution=SIDE, **options):
  output = path.parent / f"set of {path.name}"
  config = config_of(str(path), resolution, channels, **options)
  return data.open_prepared(data.prepare(config, output=output))


def write(path, contents):
  """Write a folder, or a zip by its name, of files."""
  if path.suffix == ".zip":
    with zipfile.ZipFile(path, "w") as archive:
      for name, content in contents.items():
        archive.writestr(name, content)
    return path
  for name, content in contents.items():
    (path / name).parent.mkdir(parents=True, exist_ok=True)
    (path / name).write_bytes(content)
  return path


@pytest.mark.parametrize(
  ("encode", "ending", "array", "stored"),
  [
    (npy, "npy", ramp(np.uint8, 1, 0, 255), "uint8"),
    (npy, "npy", ramp(np.int16, 2, -1024, 3071), "uint16"),
    (npy, "npy", ramp(np.int32, 1, 101300, 101350), "uint16"),
    (npz, "npz", ramp(np.float64, 3, 220.5, 330.25), "float32"),
    (chw, "npy", ramp(np.uint16, 5, 0, 4095), "uint16"),
    (png16, "png", ramp(np.uint16, 1, 0, 65535), "uint16"),
    (png16, "png", ramp(np.uint16, 3, 0, 65535), "uint16"),
    (png16, "png", ramp(np.uint16, 4, 7, 60000), "uint16"),
    (tiff, "tif", ramp(np.uint16, 1, 0, 4095), "uint16"),
    (tiff, "tif", ramp(np.float32, 8, -1.5, 9000), "float32"),
  ],
)
@pytest.mark.parametrize("kind", ["folder", "set.zip"])
def test_values_return_within_half_a_unit_of_storage(
  kind, encode, ending, array, stored, tmp_path
):
  other = array[::-1].copy()
  contents = {f"1.{ending}": encode(array), f"2.{ending}": encode(other)}
  source = write(tmp_path / kind, contents)
  prepared = prepare(source, channels=array.shape[-1], range="auto")
  value_range = prepared.metadata.value_range
  assert prepared.metadata.dtype == value_range.dtype == stored
  span = np.subtract(value_range.high, value_range.low).max()
  unit = span / {"uint8": 255, "uint16": 65535, "float32": 2**23}[stored]
  if stored == "float32":
    unit = max(unit, np.spacing(np.float32(np.abs(array).max())))
  for i, wanted in enumerate((array, other)):
    image = prepared[i]["image"]
    assert image.dtype == stored
    found = value_range.restore(to_float(image))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=0.75 * unit)


def test_a_phantom_of_12_bits_keeps_its_levels(tmp_path):
  phantom = np.arange(4096).reshape(64, 64, 1).astype(np.uint16)
  assert image_files.mark_of(png16(phantom)) == '{"low": [0]}'
  source = write(tmp_path / "ct", {"1.png": png16(phantom)})
  with pytest.raises(ValueError, match=r"1\.png: 16 bits whose values reach "):
    prepare(source, resolution=64)
  for options in ({}, {"compression": None}, {"byteorder": ">"}):
    colors = tiff(phantom.repeat(3, axis=2), photometric="rgb", **options)
    with pytest.raises(pixels.Question, match="16 bits whose values reach "):
      image = image_files.open_image(colors)
      pixels.fit(image, (64, 64), 3, "center")
  black = image_files.open_image(png16(phantom.repeat(3, axis=2) * 0))
  assert not pixels.fit(black, (64, 64), 3, "center").any()
  prepared = prepare(source, resolution=64, range="0:4095HU")
  image = prepared[0]["image"]
  assert len(np.unique(image)) == 4096
  value_range = prepared.metadata.value_range
  assert value_range.units == ("HU",)
  restored = value_range.restore(to_float(image))
  np.testing.assert_array_equal(np.rint(restored), phantom)
  with pytest.raises(ValueError, match="channels is 2, .* with 1;"):
    prepare(prepared.path, resolution=64, channels=2)
  file = prepared.path / "metadata.json"
  file.write_text(file.read_text().replace('"high"', '"top"'))
  with pytest.raises(ValueError, match="damaged, or of a newer version"):
    data.open_prepared(prepared.path)
  colors = write(tmp_path / "rgb", {"1.png": png16(phantom.repeat(3, -1))})
  with pytest.raises(ValueError, match="reach only 4095"):
    prepare(colors, resolution=64, channels=3)


def test_layouts_choose_images_of_a_file(tmp_path):
  volume = np.arange(6 * 4 * 5).reshape(6, 4, 5).astype(np.int16)
  contents = {"a.npy": npy(volume), "b.npy": npy(volume[:0])}
  source = write(tmp_path / "scans", contents)
  options = {"resolution": 4, "range": "0:119"}
  prepared = prepare(source, layout="NHW", **options)
  images = [
    prepared.metadata.value_range.restore(to_float(x["image"]))
    for x in prepared
  ]
  np.testing.assert_allclose(
    np.stack(images)[..., 0], volume[..., :4], atol=0.1
  )
  fingerprint = json.loads((prepared.path / "source.json").read_text())
  assert fingerprint["images"][5][0] == "a.npy[5]"
  assert '"b.npy[0]"' in (prepared.path / "rejected.jsonl").read_text()
  (source / "b.npy").unlink()

  found = prepare(source, layout="2HW", resolution=4, channels=2, range="auto")
  assert found.metadata.value_range.describe() == "0 to 119"

  for layout, count, first in (
    ("2HW", 5, volume[:2].transpose(1, 2, 0)),
    ("HW3", 3, volume[:, :, :3]),
    ("NWH", 6, volume[0].T[..., None]),
    ("CWH", 1, volume.transpose(2, 1, 0)),
  ):
    images = arrays.images(volume, layout)
    assert len(images) == count
    np.testing.assert_array_equal(images[0], first)
  for layout in ("HWX", "HH", "NC", "HWC3", "HWCNN"):
    with pytest.raises(ValueError, match="name the axes"):
      arrays.check_layout(layout)
  with pytest.raises(
    ValueError, match=r"a\.npy: its array is \(6, 4, 5\), but"
  ):
    prepare(source, **options)  # a slice each, or channels?
  with pytest.raises(ValueError, match=r"a\.npy: its array .* layout is NHWC"):
    prepare(source, layout="NHWC", **options)


def test_crops_average_and_pads_have_the_low_value():
  image = np.arange(8 * 16).reshape(8, 16, 1).astype(np.float64)
  cropped = pixels.fit_values(image, (4, 4), "center")
  means = image[:, 4:12].reshape(4, 2, 4, 2, 1).mean((1, 3))
  np.testing.assert_allclose(cropped, means)
  padded = pixels.fit_values(image, (16, 16), "pad")
  np.testing.assert_array_equal(padded[4:12], image)
  assert (padded[:4] == 0).all() and (padded[12:] == 0).all()
  with pytest.raises(ValueError, match="too small: 16x8"):
    pixels.fit_values(image, (16, 16), "center")
  # A crop of whole pixels changes no value.
  kept = pixels.fit_values(image, (8, 8), "center")
  np.testing.assert_array_equal(kept, image[:, 4:12])


def test_what_does_not_fit_together_is_named(tmp_path):
  good = ramp(np.float32, 1, 0, 0.9)
  nan = good.copy()
  nan[2, 3] = np.nan
  for name, contents, options, message in (
    ("a", {"x.npy": npy(good.astype("f8"))}, {}, "1.npy has values of type"),
    ("b", {"x.npy": npy(np.zeros((8, 8, 2), "f4"))}, {}, "x.npy: its array is"),
    ("c", {"x.npy": npy(good * 255)}, {}, r"x.npy up to 229.5, and none"),
    ("d", {}, {"range": "2:3"}, "2:3 of channel 1 is outside of its values"),
    ("one", {"1.npy": npy(good * 0)}, {}, "has only the value 0: give all ran"),
    ("e", {}, {"range": "3:2"}, "2 is not above 3"),
    ("f", {}, {"range": "0:1,0:2"}, "is 2 ranges; choose one"),
    ("g", {}, {"range": "full"}, "choose LOW:HIGH"),
    ("h", {}, {"channels": 3}, r"\(8, 8, 1\), but channels is 3"),
    ("i", {}, {"range": "", "channels": 5}, "values, which need their range"),
    ("nan", {"1.npy": npy(nan)}, {}, r"1.npy: NaN or Inf: 1 of its 64 values"),
    ("j", {}, {"range": ""}, r"1.npy \(a NumPy array needs its range: add --"),
  ):
    source = write(tmp_path / name, {"1.npy": npy(good)} | contents)
    with pytest.raises(ValueError, match=message) as caught:
      prepare(source, **{"range": "auto"} | options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / f"set of {name}").exists()

  parts = write(
    tmp_path / "parts", {"1.npy": npy(good), "2.npy": npy(good / 2)}
  )
  found = prepare(parts, range="auto:10").metadata.value_range
  ends = np.percentile(np.concatenate([good, good / 2]), [10, 90])
  np.testing.assert_allclose((found.low[0], found.high[0]), ends, rtol=1e-6)

  contents = {
    "1.npy": npy(good),
    "2.npy": npy(nan),
    "3.npy": npy(good.astype(complex)),
    "4.npy": npy(np.array([[{}]], object)),
    "5.npy": npy(good)[:-9],
    "6.npy": npy(good).replace(b"(8, 8, 1)", b"(8, 8, 9" + b"9" * 9 + b")"),
    "7.npy": npy(good[:4] + 2),
    "8.txt": b"no image",
  }
  prepared = prepare(write(tmp_path / "z", contents), range="auto")
  assert len(prepared) == 1
  assert prepared.metadata.value_range.high == (np.float32(0.9),)
  rows = (prepared.path / "rejected.jsonl").read_text().splitlines()
  reasons = [json.loads(row)["reason"] for row in rows]
  starts = ("NaN or Inf: 1 of", "its values are complex", "its values are ob")
  starts += ("truncated:", "", "too small: 8x4")
  for reason, start in zip(reasons, starts, strict=True):
    assert reason.startswith(start), reason


def dicom(array, **fields):
  pydicom = pytest.importorskip("pydicom")
  scan = pydicom.Dataset()
  scan.file_meta = pydicom.dataset.FileMetaDataset()
  scan.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
  scan.SOPClassUID, scan.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2"
  scan.Modality = "CT"
  scan.RescaleSlope, scan.RescaleIntercept = 1, -1024
  scan.Rows, scan.Columns = array.shape
  scan.SamplesPerPixel, scan.PixelRepresentation = 1, 0
  scan.BitsAllocated = scan.BitsStored = 16
  scan.HighBit, scan.PhotometricInterpretation = 15, "MONOCHROME2"
  scan.PixelData = array.tobytes()
  scan.update(fields)
  scan.preamble = b"II*\0" + bytes(124)  # some are TIFF files as well
  file = io.BytesIO()
  pydicom.dcmwrite(file, scan, enforce_file_format=True)
  return file.getvalue()


def enhanced(*intercepts):
  """Return the fields of an enhanced image, whose frames have groups."""
  pydicom = pytest.importorskip("pydicom")
  groups = []
  for intercept in intercepts:
    scaling, group = pydicom.Dataset(), pydicom.Dataset()
    scaling.RescaleSlope, scaling.RescaleIntercept = 1, intercept
    group.PixelValueTransformationSequence = [scaling]
    groups.append(group)
  return {"PerFrameFunctionalGroupsSequence": pydicom.Sequence(groups)}


def nifti(volume):
  nibabel = pytest.importorskip("nibabel")
  image = nibabel.Nifti1Image(volume, np.diag([2, 3, 4, 1]))
  image.header.set_slope_inter(0.5, 10)
  return image.to_bytes()


def test_scans_have_units(tmp_path):
  stored = np.arange(64, dtype=np.uint16).reshape(8, 8)
  source = write(tmp_path / "ct", {"scan": dicom(stored)})
  metadata = prepare(source, range=values.window("100:-1000")).metadata
  assert metadata.value_range == values.Range(
    (-1050.0,), (-950.0,), ("HU",), "uint16"
  )
  without = dicom(stored, RescaleIntercept=0)  # of one type with others
  assert arrays.read(without, "scan").array.dtype == np.int32
  with pytest.raises(ValueError, match="too large"):
    arrays.read(dicom(stored, Rows=60000, Columns=60000), "scan")
  for intercepts, value in (((-5,), 63 - 5), ((0, 1), None)):
    fields = enhanced(*intercepts)
    if value is None:
      with pytest.raises(ValueError, match="several slopes or intercepts"):
        arrays.read(dicom(stored, **fields), "scan")
    else:
      assert arrays.read(dicom(stored, **fields), "scan").array.max() == value

  volume = np.arange(8 * 8 * 3, dtype=np.int16).reshape(8, 8, 3)
  for ending, content in (
    ("nii", nifti(volume)),
    ("nii.gz", gzip.compress(nifti(volume))),
  ):
    source = write(tmp_path / ending, {f"a.{ending}": content})
    prepared = prepare(source, range="auto", layout="WHN")
    found = prepared.metadata.value_range.restore(
      to_float(prepared[2]["image"])
    )
    np.testing.assert_allclose(found[..., 0], 0.5 * volume[..., 2].T + 10)


def test_a_sample_is_of_all_columns(tmp_path, monkeypatch):
  """Of 16 values of an image, every fourth would be of two columns."""
  monkeypatch.setattr(survey, "_SAMPLE", 32)
  image = np.ones((SIDE, SIDE, 1), np.float32)
  image[:, ::4] = 0
  contents = {f"{i}.npy": npy(image) for i in range(2)}
  source = write(tmp_path / "a", contents)
  found = prepare(source, range="auto:10").metadata.value_range
  assert (found.low, found.high) == ((0.0,), (1.0,))


def test_pictures_are_not_scaled():
  """Pillow scales JPEG 2000 of fewer bits, and PPM of other maxima."""
  array = np.arange(64 * 64).reshape(64, 64) % 4096
  for bits, offset in ((15, 2**14), (12, 2**11)):
    file = io.BytesIO()  # the codec stores differences from half of the range
    moved = (array + 2**15 - offset).astype(np.uint16)
    Image.fromarray(moved).save(file, "JPEG2000", irreversible=False)
    content = bytearray(file.getvalue())
    for place in (content.index(b"ihdr") + 14, content.index(b"\xff\x51") + 40):
      assert content[place] == 15
      content[place] = bits - 1
    read = arrays.read(bytes(content), "a.jp2").array
    np.testing.assert_array_equal(read, array)
  content[content.index(b"\xff\x51") + 40] |= 0x80  # signed
  with pytest.raises(ValueError, match="JPEG 2000 of these bits: save it as"):
    arrays.read(bytes(content), "a.jp2")
  values = array[:8, :8] % 256
  for content in (
    b"P5 8 8 255 " + values.astype(np.uint8).tobytes(),
    b"P2 8 8 65535 " + b" ".join(b"%d" % x for x in values.ravel()),
    b"Pf\n8 8\n-1.0\n" + values[::-1].astype("<f4").tobytes(),
  ):
    read = arrays.read(content, "a.pnm").array
    np.testing.assert_array_equal(read, values)
  for kind, most in ((b"P5", 127), (b"P5", 4095), (b"P6", 65535)):
    content = b"%s 8 8 %d " % (kind, most) + bytes(8 * 8 * 3 * 2)
    with pytest.raises(ValueError, match="PPM of this maximum: save it as"):
      arrays.read(content, "a.ppm")


def test_a_compression_that_needs_a_package_ends_the_preparation(monkeypatch):
  tifffile = pytest.importorskip("tifffile")
  content = tiff(ramp(np.uint8, 1, 0, 255))

  lzw = "<COMPRESSION.LZW: 5> requires the 'imagecodecs' package"
  for error in (
    ValueError(lzw),
    ModuleNotFoundError("No module 'compression'"),
  ):
    decode = unittest.mock.Mock(side_effect=error)
    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", decode)
    with pytest.raises(pixels.Question, match="needs imagecodecs: pip install"):
      arrays.read(content, "a.tif")


def test_pages_written_one_by_one_are_one_array():
  tifffile = pytest.importorskip("tifffile")
  pages = np.arange(3 * 8 * 8, dtype=np.uint16).reshape(3, 8, 8)
  file = io.BytesIO()
  with tifffile.TiffWriter(file) as writer:
    for page in pages:
      writer.write(page, contiguous=False)
    writer.write(pages[0, ::2, ::2])  # a thumbnail
  read = arrays.read(file.getvalue(), "a.tif")
  np.testing.assert_array_equal(read.array, pages)


def test_images_of_little_contrast_are_no_duplicates(tmp_path):
  rng = np.random.default_rng(0)
  tiles = {
    f"{i}.npy": npy(4000 + rng.normal(0, 10, (SIDE, SIDE, 1)))
    for i in range(12)
  }
  tiles["copy.npy"] = tiles["0.npy"]
  source = write(tmp_path / "lowland", tiles)
  prepared = prepare(source, range="0:9000m", holdout=0.25)
  assert prepared.metadata.num_duplicates == 2


def test_damaged_files_end_in_a_sentence():
  array = ramp(np.uint16, 3, 0, 65535)
  files = {"a.npy": npy(array), "a.npz": npz(array), "a.png": png16(array)}
  volume = array.astype(np.int16)
  for name, make in (
    ("a.tif", lambda: tiff(array)),
    ("a.dcm", lambda: dicom(array[..., 0])),
    ("a.nii", lambda: nifti(volume)),
    ("a.nii.gz", lambda: gzip.compress(nifti(volume))),
  ):
    with contextlib.suppress(pytest.skip.Exception):  # an extra is missing
      files[name] = make()
  rng = random.Random(0)
  with limits(300) as begin:
    for name, content in files.items():
      for _ in range(150):
        begin(2.0)
        try:
          image = arrays.read(mutate(rng, [content]), name)
          arrays.checked(image, 3)
        except Exception as error:  # as the writer does, which lists a reason
          assert not isinstance(error, MemoryError)
