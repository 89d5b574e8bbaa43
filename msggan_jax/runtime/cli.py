"""Flags, shared by all commands."""

import difflib
import json
import os
import re
import runpy
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from msggan_jax.runtime import errors, files, jsonl

STDOUT = "-"
PACKAGE = Path(__file__).parents[1]

# What absl says of a flag, in a user's words.
_FLAG_TEXTS = (
  (r"=None: .*must have a value.*", " is missing; see --help"),
  (r"invalid literal for int\(\).*", "give a whole number"),
  (r"could not convert string to float.*", "give a number"),
)


def define_config(*, required: bool = True) -> flags.FlagHolder:
  """Define --config, a configuration file and its fields."""
  holder = config_flags.DEFINE_config_file(
    "config",
    help_string="Configuration file, with its argument after a colon; without "
    "such a file here, the package's of that name: "
    f"{', '.join(_package_configs())}.",
  )
  flags.FLAGS["config"].parser = _ConfigParser()
  if required:
    flags.mark_flag_as_required("config")
  return holder


def _package_configs() -> list[str]:
  paths = sorted(PACKAGE.glob("configs/[!_]*.py"))
  return [str(path.relative_to(PACKAGE)) for path in paths]


class _ConfigParser(flags.ArgumentParser):
  """Loads a configuration; a ValueError says in a sentence why not."""

  def parse(self, argument: str) -> ConfigDict:
    """Return the locked configuration of FILE or FILE:ARGUMENT."""
    path, colon, choice = argument.partition(":")
    file = find_config(path)
    try:
      get_config = runpy.run_path(str(file)).get("get_config")
      if get_config is None:
        raise ValueError(f"{file} defines no get_config")
      config = get_config(*([choice] if colon else []))
      expand_home(config)
      config.lock()
    except ValueError:
      raise
    except Exception as error:  # of somebody's program
      at = traceback.extract_tb(error.__traceback__)[-1]
      place = f" ({at.filename}, line {at.lineno})"
      if isinstance(error, SyntaxError):  # whose text names the place
        place = ""
      raise ValueError(
        f"{type(error).__name__}: {errors.first_line(error)}{place}"
      ) from error
    _check_fields(config, sys.argv[1:])
    return config


def find_config(path: str) -> Path:
  """Return a configuration file: of this folder, else the package's."""
  for file in (Path(path), PACKAGE / path):
    if file.is_file():
      return file
  raise ValueError(
    f"no such file; the package has {', '.join(_package_configs())}"
  )


def _check_fields(config: ConfigDict, arguments: Sequence[str]) -> None:
  """Raise ValueError for a flag that sets no field of the configuration."""
  names = by_name(config.to_dict())
  for argument in arguments:
    found = re.match(r"--?(?:no)?config\.([^=\[]+)", argument)
    if found and found[1] not in names:
      near = difflib.get_close_matches(found[1], names, 1)
      raise ValueError(
        f"the configuration has no field {found[1]}"
        + (f"; did you mean {near[0]}?" if near else "")
      )


def by_name(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """Return nested fields by their dotted names, such as dataset.path."""
  flat = {}
  for name, value in fields.items():
    if isinstance(value, Mapping):
      flat |= by_name(value, f"{prefix}{name}.")
    else:
      flat[f"{prefix}{name}"] = value
  return flat


def expand_home(config: ConfigDict) -> None:
  """Expand ~ in a configuration's texts, in place, as in all flags."""
  for name, value in config.items():
    if isinstance(value, ConfigDict):
      expand_home(value)
    elif isinstance(value, str) and "~" in value:
      config[name] = _expanded(value)


def _expanded(text: str) -> str:
  """Expand ~ where a shell does: at the start and after "=", ":" and ","."""
  return re.sub(
    r"(?<![^=:,])~[^/=:,]*", lambda found: os.path.expanduser(found[0]), text
  )


def run(main: Callable[[], None]) -> None:
  """Parse the flags and call main; bad input ends in one sentence.

  `main` raises ValueError for it, and OSError for errors of the system.
  """
  files.end_at_signals()
  # Through the environment: JAX is imported only when it is needed.
  cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
  folder = str(cache / "msggan_jax" / "compiled")
  os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", folder)

  def main_or_sentence(_: Sequence[str]) -> None:
    if not flags.FLAGS["verbosity"].present:
      logging.set_verbosity(logging.WARNING)
    try:
      main()
    except Exception as error:
      sys.exit(errors.show(error))

  app.run(main_or_sentence, flags_parser=_parse_flags)


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
    "file_batch_size": in_file.get("batch_size"),
    "file_total_kimg": in_file.get("total_kimg"),
    "for_few_images": in_file.get("augment") == "auto",
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


def _parse_flags(argv: Sequence[str]) -> Sequence[str]:
  if {"--help", "-help", "-h", "--helpfull"} & set(argv):
    app.usage(writeto_stdout=True)
    sys.exit(0)
  try:
    left = flags.FLAGS([argv[0], *map(_expanded, argv[1:])])
  except (flags.Error, LookupError, TypeError) as error:
    # The others are ml_collections' for what is no field of a field.
    sentence = str(error.args[0]).splitlines()[0].removeprefix("flag ")
    for pattern, words in _FLAG_TEXTS:
      sentence = re.sub(pattern, words, sentence)
    errors.fail(sentence)
  if "config" in flags.FLAGS and flags.FLAGS["config"].present:
    path, _ = config_file()
    if (file := find_config(path)) != Path(path):
      print(f"--config={path}: not here; using {file}", file=sys.stderr)
  if len(left) > 1:
    errors.fail(f"unexpected argument {left[1]!r}; see --help")
  return left


def command(name: str, *arguments: str) -> str:
  """Return a command of this package, to copy into a shell."""
  return shlex.join(["python", "-m", f"msggan_jax.{name}", *arguments])
