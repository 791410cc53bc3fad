"""Configuration file of the working directory: default values of options, by command."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from cvx_core.errors import UsageError, did_you_mean

_FILE, _PROJECT = "cvx.toml", "pyproject.toml"


@dataclass(frozen=True)
class Configuration:
    """Tables of a configuration file, one for each command; empty if there is no file.

    Attributes
    ----------
    source
        The file, and in ``pyproject.toml`` the table.
    tables
        Keys and values by command.
    """

    source: str = ""
    tables: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def read() -> Configuration:
        """Read ``cvx.toml``, or else ``[tool.cvx]`` of ``pyproject.toml``.

        Raises
        ------
        UsageError
            If the file can't be read or is not TOML.
        """
        for file in (_FILE, _PROJECT):
            try:
                text = Path(file).read_text(encoding="utf-8")
                if file == _PROJECT and "tool.cvx" not in text:
                    continue
                import tomllib

                content = tomllib.loads(text)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (OSError, ValueError) as error:
                raise UsageError(f"{file} can't be read: {error}") from error
            if file == _FILE:
                return Configuration(file, content)
            if "cvx" in content.get("tool", {}):
                return Configuration(f"[tool.cvx] of {file}", content["tool"]["cvx"])
        return Configuration()

    def check_commands(self, known: Iterable[str]) -> None:
        """Raise `UsageError` if a key at the top is not the table of a command."""
        known = list(known)
        for name, table in self.tables.items():
            if name not in known:
                hint = did_you_mean(name, known) or "Write options in the table of a command."
                raise UsageError(f"Unknown command {name!r} in {self.source}.", hint)
            if not isinstance(table, dict):
                raise UsageError(f"{name!r} must be a table in {self.source}.", f"Write [{name}].")

    def defaults(self, name: str, command: click.Command) -> dict[str, Any]:
        """Return default values of a command's options, by parameter.

        Raises
        ------
        UsageError
            If an option is unknown or has another type.
        """
        options = {_key(one): one for one in command.params if isinstance(one, click.Option)}
        found = {}
        for key, value in self.tables.get(name, {}).items():
            option = options.get(key.replace("_", "-"))
            if option is None:
                hint = did_you_mean(key, options) or f"Available: {', '.join(sorted(options))}."
                raise UsageError(f"Unknown option {key!r} of {name!r} in {self.source}.", hint)
            if option.name == "trust_checkpoint":
                raise UsageError(
                    f"{key!r} can't be set in {self.source}: it allows a file to run code.",
                    "Pass --trust-checkpoint on the command line.",
                )
            form = "a list" if option.multiple else "true or false" if option.is_flag else "a value"
            kind: Any = list if option.multiple else bool if option.is_flag else (str, int, float)
            if not isinstance(value, kind) or isinstance(value, bool) is not option.is_flag:
                raise UsageError(
                    f"{key!r} of {name!r} must be {form} in {self.source}, got {value!r}."
                )
            found[str(option.name)] = value
        return found


def _key(option: click.Option) -> str:
    """Return the key of an option: its long form, in the plural if it may be repeated."""
    key = max(option.opts, key=len).lstrip("-")
    return f"{key}s" if option.multiple and not key.endswith("s") else key
