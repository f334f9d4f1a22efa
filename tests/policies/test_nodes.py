from __future__ import annotations

import pytest
import yaml

from scanflow_serve.policies.nodes import MAX_NODES, Node, Place, Report, parse


def read(text: str, **environ: str) -> tuple[Node | None, list[str]]:
    report = Report("p.yaml")
    root = parse(text, environ, report)
    return root, [str(fault) for fault in report.faults]


def value(text: str, **environ: str) -> object:
    root, faults = read(text, **environ)
    assert not faults
    assert root is not None
    return root.plain()


def test_values_know_their_places_and_key_paths() -> None:
    root, _ = read("targets:\n  - {when: 'a', run: b}\n")
    assert root is not None
    when = root.entries["targets"].items[0].entries["when"]
    assert when.path == "targets[0].when"
    assert (when.key, when.place, when.verbatim) == (Place(2, 6), Place(2, 12), Place(2, 13))


def test_escaped_or_expanded_text_has_no_place_of_its_own() -> None:
    root, _ = read('a: "x\\ty"\nb: ${V}\nc: |\n  two\n  lines\n', V="v")
    assert root is not None
    assert [node.verbatim for node in root.entries.values()] == [None, None, None]


@pytest.mark.parametrize("word", ["no", "on", "yes", "off", "1:30", "2024-01-01", "0x", "1_000"])
def test_text_of_yaml_1_2_stays_text(word: str) -> None:
    assert value(f"a: {word}") == {"a": word}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("0o17", 15), ("0x1F", 31), ("1e3", 1000.0), (".5", 0.5), ("-7", -7), ("~", None)],
)
def test_plain_scalars_are_typed_by_the_core_schema(text: str, wanted: object) -> None:
    assert value(f"a: {text}") == {"a": wanted}


def test_expanded_plain_scalar_is_typed_and_quoted_one_stays_text() -> None:
    assert value("a: ${P:-3000}\nb: '${P:-3000}'") == {"a": 3000, "b": "3000"}


def test_alias_repeats_a_value_under_its_own_path() -> None:
    root, faults = read("a: &x {n: 1}\nb: *x\n")
    assert root is not None
    assert faults == []
    assert root.entries["b"].plain() == {"n": 1}
    assert root.entries["b"].entries["n"].path == "b.n"


def test_parser_agrees_with_pyyaml_on_what_both_know() -> None:
    text = 'a: [1, 2.5, true, null, x]\nb: {c: \'d\', "e": "f\\n"}\nc: |\n  g\n'
    assert value(text) == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "a: [1\nb: 3",
            "p.yaml:2:2: must be YAML: did not find expected ',' or ']' while parsing a flow "
            "sequence. Check the indentation (spaces, no tabs), brackets and quotes here and just "
            "above.",
        ),
        (
            "a: \x01",
            "p.yaml:1:4: must hold printable text, got character U+0001. Remove it.",
        ),
        (
            "a: 1\n---\nb: 1\n",
            "p.yaml:2:1: must hold one document, got a second one. "
            "Write each policy to a file of its own.",
        ),
        (
            "a: !!python/name:os.system x",
            "p.yaml:1:4: a must not have a YAML tag, got 'tag:yaml.org,2002:python/name:os.system'."
            " Remove the tag; put text in quotes.",
        ),
        ("a: 1\nb: 1\na: 2\n", "p.yaml:3:1: a must be given once, got it on line 1 too. "
         "Remove one of the two."),
        ("? [a]\n: 1", "p.yaml:1:3: must have text as a key, got a list or mapping. Name it."),
        ("a: &a [*a]", "p.yaml:1:8: must refer to an anchor above that is complete, got *a. "
         "Define it with &a above."),
        ("a: &a {b: 1}\nc:\n  <<: *a\n", "p.yaml:3:3: c.<< must not be a merge key, which YAML 1.2 "
         "does not have. Write the keys out."),
        ("[" * 5000, "p.yaml:1:66: must be nested at most 64 deep. Simplify it."),
        ("a: ${NO}", "p.yaml:1:4: a needs the environment variable NO, which is not set. "
         "Set it, or give a default: ${NO:-VALUE}."),
        ("a: ${1x}", "p.yaml:1:4: a must refer to a variable as ${NAME} or ${NAME:-default}, "
         "got '${1x}'. Write $${ for a literal ${."),
        ("a: {b: ${X}}",
         "p.yaml:1:9: must be YAML: did not find expected ',' or '}' while parsing a "
         "flow mapping. "
         "Inside [ ] and { }, put quotes around ${…}."),
        ("a: ${X", "p.yaml:1:4: a must refer to a variable as ${NAME} or ${NAME:-default}, "
         "got '${X'. Write $${ for a literal ${."),
    ],
)  # fmt: skip
def test_what_a_policy_must_not_hold_is_one_fault(text: str, fault: str) -> None:
    assert read(text)[1] == [fault]


def test_bomb_of_aliases_is_refused_before_it_grows() -> None:
    lines = ["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [
        f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefg", "bcdefgh", strict=True)
    ]
    _, (fault,) = read("\n".join(lines))
    assert f"must hold at most {MAX_NODES} values, aliases followed" in fault


def test_variables_that_grow_past_the_limit_are_refused() -> None:
    _, (fault,) = read("a:\n" + "- ${V}\n" * 50, V="x" * 100_000)
    assert "must have at most 4194304 characters once variables are expanded" in fault
