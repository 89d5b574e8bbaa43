"""What every source of images looks like to the code that prepares a set."""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeAlias

from PIL import Image


@dataclasses.dataclass(frozen=True)
class Source:
  """Images in a fixed order, before they are cropped and resized.

  Attributes:
    names: One name per image, for the report of rejected images.
    load: Maps an index to (image, label); called from several threads. It
      raises any exception where the image cannot be used. The label is 0 where
      the source has no labels.
    class_names: Names of the labels, empty without labels.
  """

  names: Sequence[str]
  load: Callable[[int], tuple[Image.Image, int]]
  class_names: tuple[str, ...] = ()


# A source may hold a file open (zip, LMDB), so openers return a context.
OpenSource: TypeAlias = contextlib.AbstractContextManager[Source]
