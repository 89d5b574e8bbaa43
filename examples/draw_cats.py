"""Draw cats as PNG files, each of random parts: images for `msg_gan.py`.

  pip install robohash
  python examples/draw_cats.py --output=runs/cats

The parts are those of robohash 2.0, art by David Revoy, CC-BY-4.0.
"""

import argparse
import pathlib
import random

import robohash
from PIL import Image


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--output", type=pathlib.Path, required=True)
  parser.add_argument("--resolution", type=int, default=32, help="of the sides")
  parser.add_argument("--count", type=int, default=10_000, help="of the cats")
  args = parser.parse_args()
  args.output.mkdir(parents=True, exist_ok=True)
  size = (args.resolution, args.resolution)
  # Folders from the bottom layer to the top one: body, fur, eyes, ...
  folders = sorted(pathlib.Path(robohash.__file__).parent.glob("sets/set4/*"))
  layers = [
    [
      Image.open(part).convert("RGBA").resize(size)
      for part in layer.glob("*.png")
    ]
    for layer in folders
  ]
  for i in range(args.count):
    cat = Image.new("RGBA", size, "white")
    for layer in layers:
      cat.alpha_composite(random.choice(layer))
    cat.convert("RGB").save(args.output / f"{i}.png")


if __name__ == "__main__":
  main()
