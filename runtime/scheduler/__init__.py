"""Decides, batch by batch, which request runs next and which variant answers it.

Pure: the clock is the caller's, sessions are names, nothing here waits or runs. The same object
serves live, stands in tests under a fake clock, and replays traces in the simulator.

Context: INFaaS, Model-Switching and SlackFit choose the most accurate variant that the slack of
the most urgent request allows. By itself that rule flips at every batch and, near saturation,
spends on accuracy what the requests behind would have needed.

Outcome: earliest deadline first (`queue`); a request that can't be met is refused when it arrives
(`scheduler`); a batch takes the best variant that leaves every request behind it feasible on the
fastest one (`choice`); a plan from the arrival rate, recomputed on each tick with hysteresis, says
which variants are worth starting from at all (`mix`).

Price: look-ahead costs O(queue) a batch, bounded by `choice.PROBES`.

Source:
    Romero et al., INFaaS (ATC 2021); Zhang et al., Model-Switching (HotCloud 2020); Khare et
    al., SuperServe (NSDI 2025); Ahmad et al., Proteus (ASPLOS 2024); Wan et al., ALERT
    (ATC 2020).
"""
