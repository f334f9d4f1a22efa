from __future__ import annotations

import pytest

from scanflow_serve.policies.conditions import Condition, ConditionError, compile_condition
from scanflow_serve.policies.vocabulary import ADAPT_VARIABLES, TARGET_VARIABLES

CHECKS = frozenset({"drift"})
VALUES = {
    "host": {
        "kind": "raspberry-pi",
        "memory_mb": 512,
        "labels": {"site": "lab"},
        "throttled": False,
        "cpu": {"cores": 2.5, "features": frozenset({"neon", "asimd"})},
    },
    "checks": {"drift": {"state": "alarm", "score": 3, "p_val": None}},
    "latency": {"p95_ms": None},
    "traffic": {"rate_rps": 10, "queue": 0},
}


def compiled(text: str) -> Condition:
    return compile_condition(text, ADAPT_VARIABLES, CHECKS)


@pytest.mark.parametrize(
    "text",
    [
        "host.memory_mb < 1024",
        "host.memory_mb == 0x200",
        "host.memory_mb - 2 == 510 && -host.memory_mb < -1",
        "host.cpu.cores * 2 / 5 == 1.0",
        "host.memory_mb in [256, 512]",
        '"neon" in host.cpu.features && !("avx2" in host.cpu.features)',
        'host.cpu.features.exists(f, f.startsWith("as")) && size(host.cpu.features) == 2',
        'host.cpu.features[0] == "asimd"',
        'host.cpu.features.filter(f, f == "neon").size() == 1',
        'host.cpu.features.map(f, f + "!") == ["asimd!", "neon!"]',
        'host.kind.matches("^raspberry") && host.kind.contains("-") && host.kind.endsWith("pi")',
        "host.throttled ? host.memory_mb > 1024 : host.memory_mb < 1024",
        'has(host.labels.site) && !has(host.labels.zone) && "site" in host.labels',
        'host.labels["site"] == "lab" && host.labels.all(k, k == "site")',
        'checks["drift"].state == "alarm" && checks.drift.score >= 3',
        'checks.exists(name, checks[name].state == "alarm")',
        'host.labels.zone == "a" || true',
        'double("1") == 1',
        "traffic.rate_rps > 5 // comments are CEL too",
        "host.memory_mb in [] || true",
    ],
)
def test_condition_holds(text: str) -> None:
    assert compiled(text).holds(VALUES) is True


@pytest.mark.parametrize(
    "text",
    [
        'host.labels.zone == "a"',
        'host.labels.zone != "a"',
        '!(host.labels.zone == "a")',
        "latency.p95_ms > 1",
        'checks["drift"].p_val < 0.5',
        'host.cpu.features[9] == "neon"',
        "double(host.kind) > 1",
        "feedback.labels > 1",
        "host.memory_mb > 1024",
    ],
)
def test_what_is_not_known_makes_no_condition_hold(text: str) -> None:
    assert compiled(text).holds(VALUES) is False


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "host.kind ==",
            "1:13: must be CEL, got its end too early. "
            'For example: host.kind == "desktop" && host.cpu.cores >= 2',
        ),
        ('host.kind = "a"', "1:11: must be CEL, got '= \"a\"'. Compare with ==."),
        ('host.kind == "a" and true', "1:18: must be CEL, got 'and'. Write &&."),
        (
            "hots.kind == 'a'",
            "1:1: must name one of the variables checks, feedback, host, latency, model, traffic, "
            "got 'hots'. Did you mean 'host'?",
        ),
        (
            "host.kind == desktop",
            "1:14: must name one of the variables checks, feedback, host, latency, model, traffic, "
            "got 'desktop'. Put text in quotes.",
        ),
        (
            "true || host.cpu.core > 1",
            "1:18: must name a member of host.cpu, got 'core'. Did you mean 'cores'?",
        ),
        (
            'checks["drft"].state == "ok"',
            "1:8: must name a configured check, got 'drft'. Did you mean 'drift'?",
        ),
        ("checks.drft.score > 1", "1:8: must name a configured check, got 'drft'. "
         "Did you mean 'drift'?"),
        (
            'checks["drift"].scor > 1',
            "1:17: must name a member of checks[\"drift\"], got 'scor'. Did you mean 'score'?",
        ),
        (
            "checks[host.kind].score > 1",
            "1:8: a key of checks must be written out, so that it can be checked. "
            'For example: checks["drift"]',
        ),
        ("host.memory_mb", "1:1: must be true or false, got a number. Compare it with something."),
        ("host.kind > 3", "1:1: both sides of > must have one type, got text and a number."),
        ("host.throttled < true", "1:1: < needs numbers or text, got a truth value."),
        ("host.kind && true", "1:1: the left of && must be a truth value, got text."),
        ("true || !host.kind", "1:10: what stands after ! must be a truth value, got text."),
        ("host.kind - 'a' == ''", "1:1: - needs numbers, got text."),
        ("host.memory_mb % 2 == 0",
         "1:1: % is not defined: all numbers are double. Use / instead."),
        ("'a' in 'ab'", "1:1: 'in' needs a list or map on its right, got text. "
         'For example: "avx2" in host.cpu.features'),
        ("1 in host.cpu.features",
         "1:1: an item and its list, around 'in', must have one type, got a number and text."),
        ("host.kind.startsWith(1)",
         "1:22: the argument of startsWith() must be text, got a number."),
        ("host.kind.startswith('a')",
         "1:11: must name a known function, got 'startswith'. Did you mean 'startsWith'?"),
        ("sise(host.labels) > 1", "1:1: must name a known function, got 'sise'. "
         "Did you mean 'size'?"),
        ('host.kind.matches("(")',
         "1:19: must be a regular expression: missing ): (. See RE2's syntax."),
        ("has(host)", "1:5: has() needs a member. For example: has(host.labels.zone)"),
        ("has(host.knd)", "1:10: must name a member of host, got 'knd'. Did you mean 'kind'?"),
        ("null == null", "1:1: must not use 'null': no value has its type."),
        ("host{a: 1} == host", "1:1: must not use this part of CEL. "
         "Use variables, operators and functions only."),
        ('host.cpu.features["a"] == "b"',
         "1:19: a list must be indexed by a whole number >= 0."),
        ("[1, 'a'] == []", "1:1: the items of a list must have one type, got a number and text."),
        ("(" * 200 + "true" + ")" * 200,
         "1:1: must be nested less deeply. Split it, or use 'in' with a list."),
        ("true" + " && true" * 600, "1:1: must have at most 4096 characters. Split it."),
        ("host.cpu.features.exists(f, g == 'a')",
         "1:29: must name one of the variables checks, feedback, host, latency, model, traffic, "
         "got 'g'. Put text in quotes."),
        ("host.throttled ? 1 : 'a'", "1:1: both sides of : must have one type, got a number and "
         "text."),
    ],
)  # fmt: skip
def test_wrong_condition_is_an_error_when_compiled(text: str, error: str) -> None:
    with pytest.raises(ConditionError, match=r"^\d+:\d+: ") as caught:
        compiled(text)
    assert str(caught.value) == error


def test_error_on_a_later_line_is_placed_there() -> None:
    with pytest.raises(ConditionError, match="Did you mean 'kind'") as caught:
        compiled("host.memory_mb < 3\n  || host.knd == 'a'")
    assert (caught.value.line, caught.value.column) == (2, 11)


def test_variable_that_this_place_does_not_have_is_refused() -> None:
    with pytest.raises(ConditionError, match="must name one of the variables host, got 'traffic'"):
        compile_condition("traffic.rate_rps > 1", TARGET_VARIABLES, CHECKS)
