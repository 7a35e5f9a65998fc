"""`make docs`: README.md's tables of commands and options, and docs/TABLES.md, from the code."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from pipeline.cli.options import FROM, LAYERS
from pipeline.config import Config
from pipeline.system.files import write_text
from pipeline.tables import describe

ROOT = Path(__file__).resolve().parent.parent
RUN = ("RUN", "runs/<name>", "folder of the run; named after its contents where not given")


def command_table(makefile: str) -> str:
    """List the commands of a Makefile: those with a `##` comment."""
    commands = re.findall(r"^([a-z-]+):.*?## (.+)$", makefile, re.MULTILINE)
    rows = [f"| `make {name}` | {_cell(text)} |" for name, text in commands]
    return "\n".join(["| command | what it does |", "|---|---|", *rows])


def option_table() -> str:
    """List the options of `make discover`: fields of the configuration, LAYERS, FROM and RUN."""
    rows = ["| option | default | meaning |", "|---|---|---|"]
    for name, field in Config.model_fields.items():
        default = "–" if field.default in (None, ()) else f"`{field.default}`"
        rows.append(f"| `{name.upper()}` | {default} | {_cell(str(field.description))} |")
        if name == "layer":
            rows.append(f"| `LAYERS` | – | {_cell(LAYERS.help)} |")
    rows.append(f"| `FROM` | – | {_cell(FROM.help)} |")
    rows.append("| `{}` | `{}` | {} |".format(*RUN))
    return "\n".join(rows)


def renewed(readme: str, tables: dict[str, str]) -> str:
    """Return the text with each table between its marks, `<!-- name -->` and `<!-- /name -->`.

    Raises
    ------
    ValueError
        The marks of a table are missing.
    """
    for name, table in tables.items():
        head, mark, rest = readme.partition(f"<!-- {name} -->\n")
        _, end, tail = rest.partition(f"<!-- /{name} -->")
        if not end:
            raise ValueError(f"README.md lacks the marks <!-- {name} --> and <!-- /{name} -->")
        readme = f"{head}{mark}{table}\n{end}{tail}"
    return readme


def tables() -> dict[str, str]:
    """Return every generated table of README.md by its name."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return {"commands": command_table(makefile), "options": option_table()}


def main() -> int:
    """Write README.md's tables and docs/TABLES.md anew and say what changed."""
    readme = ROOT / "README.md"
    texts = {
        readme: renewed(readme.read_text(encoding="utf-8"), tables()),
        ROOT / "docs" / "TABLES.md": describe(),
    }
    for path, text in texts.items():
        same = path.exists() and path.read_text(encoding="utf-8") == text
        if not same:
            write_text(path, text)
        print(f"{path.name} is {'as the code says' if same else 'written anew'}")
    return 0


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
