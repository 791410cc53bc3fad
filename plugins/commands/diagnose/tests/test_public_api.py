"""The names of the package, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys

import cvx_diagnose


def test_all_names_can_be_imported() -> None:
    assert set(cvx_diagnose.__all__) == {
        *("Item", "Plan", "Run", "Source", "TideReport"),
        *("diagnose", "open_source", "tide"),
    }
    for name in cvx_diagnose.__all__:
        assert getattr(cvx_diagnose, name).__name__ == name


def test_the_function_needs_neither_click_nor_the_command_line() -> None:
    code = "import sys; sys.modules['click'] = None; from cvx_diagnose import diagnose; "
    code += "assert not any(name.startswith('cvx_core.cli') for name in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
