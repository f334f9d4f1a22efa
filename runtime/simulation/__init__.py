"""Tells before you deploy: arrivals replayed through the very scheduler, on measured profiles.

Context: which variants to keep, and whether a device holds its load, is known from a load test on
that device, or by asking a model of it.

Outcome: the scheduler is pure, so the model is small: a clock that jumps from event to event
(`world`), calls that take what was measured (`calls`), and arrivals (`arrivals`, `traces`). The
same world runs simpler rules (`baselines`), and a linear program says what no rule can exceed
(`optimum`).

Price: a call's time depends on its option and rows alone. Of the host's neighbours, of caches that
go cold at a switch, and of throttling it knows only what the measured p95 tells; a policy's `adapt`
rules are not replayed.
"""
