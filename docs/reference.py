"""Write docs/configuration.md from the table of fields.

  python docs/reference.py

A test compares it with the table, `msggan_jax/config/fields.py`.
"""

from pathlib import Path

from msggan_jax.config.fields import SECTIONS

PAGE = Path(__file__).with_name("configuration.md")

_PAGE_START = """\
# Set a field of the configuration

Written from the table of fields in `msggan_jax/config/fields.py` by
`make docs`; change the table, not this page.

Give any field on the command line as `--config.<field>=<value>`:

```sh
python -m msggan_jax.main --config=configs/ffhq.py:msg_stylegan \\
    --config.dataset.path=images1024x1024 --config.batch_size=64
```

Defaults are the paper's MSG-ProGAN where the paper has a value. Data sets
(`configs/*.py`) and presets (`configs/default.py`) change some of them.
Durations are in kimg: thousands of real images shown; fractions are allowed. An
impossible value is refused in one sentence before compilation. A resumed run
may change the fields marked in the last column, and no others.
"""


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
      lines.append(
        f"| `{name}` | `{field.default!r}` | {field.expected} | "
        f"{field.meaning} | {'yes' if field.resumable else ''} |"
      )
    lines.append("")
  return "\n".join(lines)


if __name__ == "__main__":
  PAGE.write_text(page_text())
