"""Class names of a data set, matched with those of a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from cvx_core import InputError, TargetError
from cvx_core.tasks import find_class

_SHOWN = 20


@dataclass(frozen=True)
class ClassNames:
    """Class names of a model, and how those of a data set are called there.

    Attributes
    ----------
    classes
        The model's class names; None if it has none.
    renamed
        From names (or numbers, as text) in the data set to names or indices of the model; an empty
        text leaves the objects of the class out.
    """

    classes: Sequence[str] | None
    renamed: Mapping[str, str] = field(default_factory=dict)

    def find(self, name: str | int, where: str) -> str | int | None:
        """Return a class's index among the model's; None if it is left out.

        Where the model has no class names the name stays as it is.

        Raises
        ------
        InputError
            If there is none of the name: with file and line.
        """
        given: str | int = self.renamed.get(str(name), name)
        if given == "":
            return None
        if self.classes is None:
            return int(given) if str(given).isdecimal() else given
        try:
            return find_class(given, self.classes, len(self.classes))
        except TargetError as error:
            raise InputError(f"{where}: {error.message}", error.hint) from error

    def check(self, names: Iterable[str], where: str) -> None:
        """Check that all names of a data set are known.

        Raises
        ------
        InputError
            With a table of the names beside those of the model.
        """
        if self.classes is None:
            return
        names = list(dict.fromkeys(names))
        rows, unknown = [], []
        for name in names:
            try:
                index = self.find(name, where)
            except InputError:
                near = get_close_matches(name, self.classes, 1)
                rows.append((name, f"unknown{f' (near: {near[0]})' if near else ''}"))
                unknown.append(name)
            else:
                rows.append((name, "left out" if index is None else self._called(index)))
        if not unknown:
            return
        rows.sort(key=lambda row: not row[1].startswith("unknown"))
        wide = max(len(name) for name, _ in rows[:_SHOWN])
        table = [f"  {name:<{wide}}  {found}" for name, found in rows[:_SHOWN]]
        if len(rows) > _SHOWN:
            table.append(f"  and {len(rows) - _SHOWN} more")
        most = ", ".join(map(repr, list(self.classes)[:5]))
        more = f" and {len(self.classes) - 5} more" if len(self.classes) > 5 else ""
        raise InputError(
            f"{len(unknown)} of the {len(names)} classes in {where} are not among the model's "
            f"{len(self.classes)}, {most}{more}:\n" + "\n".join(table),
            f"Say which they are: --classes-map '{unknown[0]}=NAME' (classes_map= in Python), with "
            f"a name or an index of the model; '{unknown[0]}=' leaves the class out.",
        )

    def _called(self, index: str | int) -> str:
        assert self.classes is not None
        return f"{index} {self.classes[int(index)]}"
