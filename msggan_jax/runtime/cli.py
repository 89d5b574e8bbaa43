"""Shared by all commands: flags, and bad input in one clear sentence."""

import errno
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

from msggan_jax.runtime import jsonl, machine

EXIT_FAILURE = 1  # launch scripts repeat the command
EXIT_HOPELESS = 2  # bad input: the same command would end the same way
STDOUT = "-"

# Bad input: a path that is missing, forbidden or of another kind. Other errors
# of the system, such as a full disk, may be gone the next time.
_HOPELESS = (
  ValueError,
  FileNotFoundError,
  FileExistsError,
  PermissionError,
  IsADirectoryError,
  NotADirectoryError,
)
_HOPELESS_CODES = (errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)


def define_config() -> flags.FlagHolder:
  """Define --config, a file of configs/ and its fields; it is required."""
  holder = config_flags.DEFINE_config_file(
    "config",
    help_string="Configuration file, with its argument after a colon.",
  )
  flags.mark_flag_as_required("config")
  return holder


def run(main: Callable[[], None]) -> None:
  """Parse the flags and call main; bad input ends in one sentence.

  `main` raises ValueError for it, and OSError for errors of the system.
  """
  # Through the environment: JAX is imported only when it is needed.
  folder = str(machine.cache_folder() / "compiled")
  os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", folder)

  def main_or_sentence(_: Sequence[str]) -> None:
    if not flags.FLAGS["verbosity"].present:
      logging.set_verbosity(logging.WARNING)
    try:
      main()
    except (ValueError, OSError) as error:
      fail(str(error), EXIT_HOPELESS if is_hopeless(error) else EXIT_FAILURE)
    except (RuntimeError, AssertionError):
      if problem := machine.platform_problem():
        fail(problem)
      raise

  app.run(main_or_sentence, flags_parser=_parse_flags)


def is_hopeless(error: Exception) -> bool:
  """Return whether the same command would fail again: it is bad input."""
  code = error.errno if isinstance(error, OSError) else None
  return isinstance(error, _HOPELESS) or code in _HOPELESS_CODES


def config_file() -> tuple[str, str]:
  """Return the path and the argument of the flag --config, as given."""
  filename = config_flags.get_config_filename(flags.FLAGS["config"])
  path, _, argument = filename.partition(":")
  return path, argument


def config_origin() -> dict[str, Any]:
  """Return what the file of --config has and what flags set, for `resolve`."""
  flag = flags.FLAGS["config"]
  in_file = flag.parser.parse(config_flags.get_config_filename(flag))
  return {
    "file_batch_size": in_file.batch_size,
    "given": config_flags.get_override_values(flag),
  }


class _OptionalParser(flags.ArgumentParser):
  """A flag whose value may be left out."""

  def __init__(self, bare: str):
    super().__init__()
    self._bare = bare

  def parse(self, argument: str | None) -> str | None:
    """Return the value, the bare flag's value, or None for --no<flag>."""
    return {"true": self._bare, "false": None}.get(argument, argument)


def define_optional(name: str, bare: str, help_string: str) -> flags.FlagHolder:
  """Define a flag that is None if absent, and `bare` without a value."""
  return flags.DEFINE(
    _OptionalParser(bare),
    name,
    None,
    help_string,
    serializer=flags.ArgumentSerializer(),
    boolean=True,  # so that the bare flag is accepted
  )


def define_json(help_string: str) -> flags.FlagHolder:
  """Define --json, for `JsonOutput`, the same in every command."""
  how = "--json prints it, --json=FILE writes it to a new file."
  return define_optional("json", STDOUT, f"{help_string} {how}")


class JsonOutput:
  """Where a command's numbers go: lines for people, JSON, or both."""

  def __init__(self, target: str | None):
    """Refuse a file that exists, or whose folder does not, before any work."""
    self._target = target
    if target in (None, STDOUT):
      return
    if Path(target).exists():
      raise ValueError(f"--json={target}: it exists; choose another file")
    if not Path(target).parent.is_dir():
      raise ValueError(f"--json={target}: there is no such folder")

  def show(self, numbers: Mapping[str, Any], lines: Sequence[str]) -> None:
    """Print the lines, or print or append the numbers as one line of JSON."""
    if self._target == STDOUT:
      lines = [json.dumps(numbers)]
    print("\n".join(lines), flush=True)
    if self._target not in (None, STDOUT):
      jsonl.append(Path(self._target), numbers)


def parse_step(text: str) -> int | str | None:
  """Parse --step: a number or "best"; empty: None, the newest checkpoint."""
  if text in ("", "best"):
    return text or None
  if text.isdecimal():
    return int(text)
  raise ValueError(f"--step={text}: give a number, or best")


def parse_two_steps(text: str) -> tuple[int, int] | None:
  """Parse two steps with a comma; empty: None."""
  parts = text.split(",")
  if text and not (len(parts) == 2 and all(map(str.isdecimal, parts))):
    raise ValueError(f"--verify={text}: give two steps, such as --verify=0,100")
  return (int(parts[0]), int(parts[1])) if text else None


def _parse_flags(argv: Sequence[str]) -> Sequence[str]:
  if {"--help", "-help", "-h", "--helpfull"} & set(argv):
    app.usage(writeto_stdout=True)
    sys.exit(0)
  try:
    left = flags.FLAGS(argv)
  except AttributeError as error:
    # ml_collections' message for an unknown field, with a suggestion.
    reason = str(error).strip("\"'").replace("\\n", "; ").replace("\\'", "'")
    fail(f"the configuration has no field {reason}")
  except flags.Error as error:
    # The last line has the reason, after a traceback of the config file.
    lines = [line for line in str(error).splitlines() if line.strip()]
    fail(lines[-1].strip().removeprefix("ValueError: "))
  if "config" in flags.FLAGS and flags.FLAGS["config"].present:
    path, _ = config_file()
    if not Path(path).is_file():
      fail(f"--config={path}: no such file")
  if len(left) > 1:
    fail(f"unexpected argument {left[1]!r}; see --help")
  return left


def first_line(error: Exception) -> str:
  """Return the first line of a library's error, for a sentence of ours."""
  return (str(error).strip() or repr(error)).splitlines()[0][:300]


def fail(sentence: str, code: int = EXIT_HOPELESS) -> NoReturn:
  """Print the sentence and end the process."""
  print(f"error: {sentence}", file=sys.stderr)
  sys.exit(code)
