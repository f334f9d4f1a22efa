from __future__ import annotations

import pytest

from scanflow_serve.policies.expansion import ExpansionError, expand


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("plain $HOME", "plain $HOME"),
        ("${A}", "one"),
        ("x${A}y${B}", "xoney"),
        ("${B:-two}", "two"),
        ("${C:-}", ""),
        ("$${A}", "${A}"),
        ("${LOOP}", "${A}"),
    ],
)
def test_variables_are_expanded_once(text: str, wanted: str) -> None:
    assert expand(text, {"A": "one", "B": "", "LOOP": "${A}"}) == wanted


def test_missing_variable_names_the_default_syntax() -> None:
    with pytest.raises(ExpansionError, match=r"or give a default: \$\{C:-VALUE\}\."):
        expand("${C}", {})
