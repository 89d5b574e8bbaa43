"""What all commands share: flags in, one clear sentence for bad input out."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

from msggan_jax.runtime import user_cache

EXIT_FAILURE = 1
EXIT_HOPELESS = 2  # wrong input: the same command would end the same way


def run(main: Callable[[Sequence[str]], None]) -> None:
  """Parse the flags and call main; bad input ends in one sentence.

  What JAX compiles is kept in the user's cache, unless its own environment
  variables say otherwise.

  Args:
    main: Takes the arguments that are left after the flags; raises ValueError
      or FileNotFoundError on input that cannot work, OSError on what the
      system refuses.
  """

  # By the environment, because JAX is not imported before it is needed.
  folder = str(user_cache.folder() / "compiled")
  os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", folder)

  def main_or_sentence(argv: Sequence[str]) -> None:
    if not flags.FLAGS["verbosity"].present:
      logging.set_verbosity(logging.WARNING)
    try:
      main(argv)
    except (ValueError, FileNotFoundError) as error:
      fail(str(error))
    except OSError as error:  # such as a full disk
      fail(str(error), EXIT_FAILURE)

  app.run(main_or_sentence, flags_parser=_parse_flags)


def config_file() -> tuple[str, str]:
  """Return the path and the argument of the flag --config, as given."""
  filename = config_flags.get_config_filename(flags.FLAGS["config"])
  path, _, argument = filename.partition(":")
  return path, argument


def parse_step(text: str) -> int | str | None:
  """Parse --step: a number, or "best"; empty: None, the newest checkpoint.

  Raises:
    ValueError: If the text is anything else.
  """
  if not text:
    return None
  if text.isdecimal():
    return int(text)
  if text == "best":
    return text
  raise ValueError(f"--step={text}: give a number, or best")


def _parse_flags(argv: Sequence[str]) -> Sequence[str]:
  if {"--help", "-help", "-h", "--helpfull"} & set(argv):
    app.usage(writeto_stdout=True)
    sys.exit(0)
  try:
    left = flags.FLAGS(argv)
  except AttributeError as error:
    # ml_collections' message of an unknown field, with a guess below it.
    reason = str(error).strip("\"'").replace("\\n", "; ").replace("\\'", "'")
    fail(f"the configuration has no field {reason}")
  except flags.Error as error:
    # The last line says it; those before it are a traceback of a config file.
    lines = [line for line in str(error).splitlines() if line.strip()]
    fail(lines[-1].strip().removeprefix("ValueError: "))
  if "config" in flags.FLAGS and flags.FLAGS["config"].present:
    path, _ = config_file()
    if not Path(path).is_file():
      fail(f"--config={path}: there is no such file")
  if len(left) > 1:
    fail(f"unexpected argument {left[1]!r}; see --help")
  return left


def fail(sentence: str, code: int = EXIT_HOPELESS) -> NoReturn:
  """Print the sentence and end the process."""
  print(f"error: {sentence}", file=sys.stderr)
  sys.exit(code)
