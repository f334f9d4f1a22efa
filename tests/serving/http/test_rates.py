from __future__ import annotations

import pytest

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.serving.http.rates import MOST_CLIENTS, Rates


class FakeClock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_second_of_requests_may_come_at_once_and_then_the_rate_holds():
    clock = FakeClock()
    rates = Rates(2.0, clock)
    rates.admit("a")
    rates.admit("a")
    with pytest.raises(
        RequestError, match=r"must send <= 2 requests/s .* Retry in 0.5 s"
    ) as refused:
        rates.admit("a")
    assert refused.value.retry_after_s == pytest.approx(0.5)
    clock.now = 0.5
    rates.admit("a")
    with pytest.raises(RequestError, match=r"Retry in 0\.5 s"):
        rates.admit("a")


def test_clients_do_not_share_a_bucket():
    rates = Rates(1.0, FakeClock())
    rates.admit("a")
    rates.admit("b")
    with pytest.raises(RequestError, match="got more"):
        rates.admit("a")


def test_buckets_are_bounded():
    rates = Rates(1.0, FakeClock())
    for i in range(MOST_CLIENTS + 10):
        rates.admit(str(i))
    assert len(rates) == MOST_CLIENTS
