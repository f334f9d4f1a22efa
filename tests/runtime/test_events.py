"""The log of what happened: bounded, in order, readable from where a client left off."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from scanflow_serve.runtime.events import Event, EventLog


def happened(text: str) -> Event:
    return Event("load", "digits-mlp", text)


def added(log: EventLog, text: str) -> int:
    """Add an event and return its id."""
    log.add(happened(text))
    return log.latest


def texts(found: list[tuple[int, Event]]) -> list[str]:
    return [event.text for _, event in found]


def test_client_reads_on_from_the_last_id_it_saw() -> None:
    log = EventLog()
    first, *_ = [added(log, text) for text in "abc"]
    assert texts(log.after(first)) == ["b", "c"]
    assert log.after(log.latest) == []
    assert [identity for identity, _ in log.after(first)] == [first + 1, first + 2]


def test_oldest_events_are_forgotten_and_ids_stay() -> None:
    log = EventLog(kept=2)
    first, *_, last = [added(log, text) for text in "abcd"]
    assert texts(log.after(first)) == ["c", "d"]
    assert log.after(first)[-1][0] == last == log.latest


def test_without_an_id_the_latest_are_read() -> None:
    log = EventLog()
    for text in "abcd":
        log.add(happened(text))
    assert texts(log.after(limit=2)) == ["c", "d"]
    assert texts(log.after(0, limit=2)) == ["a", "b"]


def test_ids_rise_across_restarts() -> None:
    before = EventLog(clock=lambda: 1000.0)
    seen = added(before, "before")
    after = EventLog(clock=lambda: 1001.0)
    after.add(happened("after"))
    assert texts(after.after(seen)) == ["after"]


def test_id_from_the_future_is_taken_for_none() -> None:
    log = EventLog(clock=lambda: 1000.0)
    log.add(happened("a"))
    assert texts(log.after(10**15)) == ["a"]


def test_listeners_are_told_until_they_end() -> None:
    log = EventLog()
    told: list[int] = []
    end = log.listen(lambda: told.append(log.latest))
    identity = added(log, "a")
    end()
    log.add(happened("b"))
    end()
    assert told == [identity]


def test_no_event_of_several_threads_is_lost() -> None:
    log = EventLog()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: log.add(happened(str(n))), range(500)))
    found = log.after()
    assert {event.text for _, event in found} == {str(n) for n in range(500)}
    assert [identity for identity, _ in found] == [*range(found[0][0], log.latest + 1)]


def test_event_is_told_with_its_time_in_utc() -> None:
    told = Event(
        "decision", "digits", "slow", {"p95_ms": 3.0}, {"from": None, "to": "a"}, time=1.25
    ).to_json()
    assert told == {
        "time": "1970-01-01T00:00:01.250Z",
        "kind": "decision",
        "source": "digits",
        "text": "slow",
        "figures": {"p95_ms": 3.0},
        "details": {"from": None, "to": "a"},
    }
