"""Write configs/default.py and docs/configuration.md from the table of fields.

  python docs/reference.py

A test compares both with the table, `msggan_jax/config/fields.py`.
"""

import textwrap
from pathlib import Path

from msggan_jax.config.field_types import (
  Batch,
  Choice,
  End,
  Field,
  Remat,
  Scales,
  Weights,
)
from msggan_jax.config.fields import FIELDS, SECTIONS

ROOT = Path(__file__).parents[1]
DEFAULT = ROOT / "configs" / "default.py"
PAGE = ROOT / "docs" / "configuration.md"

_BASE_CONFIG = "def get_base_config():\n"
_WIDTH = 80
_PAGE_START = """\
# Set a field of the configuration

Written from the table of fields in `msggan_jax/config/fields.py` by
`python docs/reference.py`; please change the table.

Give any field on the command line as `--config.<field>=<value>`:

```sh
python -m msggan_jax.main --config=configs/ffhq.py:msg_stylegan \\
    --config.dataset.path=images1024x1024 --config.batch_size=64
```

Defaults are the paper's MSG-ProGAN where the paper has a value. Data sets
(`configs/*.py`) and presets (`configs/presets/*.py`) change some of them.
Durations are in kimg: thousands of real images shown; fractions are allowed. An
impossible value ends in one sentence before compilation. A resumed run may
change the fields marked in the last column, and no others.
"""


def default_text() -> str:
  """Return configs/default.py: its head as it is, its fields from the table."""
  head = DEFAULT.read_text().partition(_BASE_CONFIG)[0]
  lines = [
    _BASE_CONFIG.rstrip("\n"),
    '  """Return MSG-ProGAN as the paper trains it; presets start from it.',
    "",
    "  Written from the table of fields: `python docs/reference.py`.",
    '  """',
    "  config = ConfigDict()",
  ]
  for title, section in SECTIONS.items():
    lines += ["", f"  # {title}."]
    for name, field in section.items():
      if name == "dataset.name":
        lines.append("  config.dataset = ConfigDict()")
      lines += _assignment(name, field)
  return head + "\n".join([*lines, "  return config"]) + "\n"


def page_text() -> str:
  """Return docs/configuration.md."""
  lines = [_PAGE_START]
  for title, section in SECTIONS.items():
    lines += [
      f"## {title}",
      "",
      "| field | default | values | meaning | resume |",
      "|---|---|---|---|---|",
    ]
    for name, field in section.items():
      changeable = "yes" if field.resumable else ""
      cells = [
        f"`{name}`",
        f"`{field.default!r}`",
        field.expected(),
        field.meaning,
        changeable,
      ]
      lines.append(f"| {' | '.join(cells)} |")
    lines.append("")
  return "\n".join(lines)


def _assignment(name: str, field: Field) -> list[str]:
  statements = []
  # A name or something else.
  if isinstance(field, Batch | End | Remat | Scales | Weights):
    statements.append(f"  config.{name} = config_dict.placeholder(object)")
  value = f'"{field.default}"' if isinstance(field.default, str) else None
  statements.append(f"  config.{name} = {value or repr(field.default)}")
  comment = _comment(name, field)
  in_line = f"{statements[-1]}  # {comment}"
  if len(in_line) <= _WIDTH and len(statements) == 1:
    return [in_line]
  wrapped = textwrap.wrap(comment, _WIDTH - 4)
  return [*(f"  # {line}" for line in wrapped), *statements]


def _comment(name: str, field: Field) -> str:
  if isinstance(field, Choice | Scales | Weights):
    return f"{field.meaning}: {field.expected()}"
  return field.meaning


def main() -> None:
  """Write both files."""
  for path, text in ((DEFAULT, default_text()), (PAGE, page_text())):
    path.write_text(text)
    print(f"{path.relative_to(ROOT)}: {len(FIELDS)} fields")


if __name__ == "__main__":
  main()
