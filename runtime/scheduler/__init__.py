"""Decides, batch by batch, which request runs next and which variant answers it.

Pure: the clock is the caller's, sessions are names, nothing here waits or runs. The same object
serves live, stands in tests under a fake clock, and replays traces in the simulator.

Context: INFaaS, Model-Switching and SlackFit choose the most accurate variant that the slack of
the most urgent request allows. By itself that rule flips at every batch and, near saturation,
spends on accuracy what the requests behind would have needed.

Outcome: earliest deadline first (`queue`); a request that can't be met is refused when it arrives,
and where not all can be met the client that was granted most lately loses (`admission`, `flows`); a
batch takes the best variant that leaves every request behind it feasible on the thriftiest one and
room in the queue for those to come (`choice`); a plan from the arrival rate, renewed on each tick,
says which variants are worth starting from at all (`mix`), with the host shared between lanes
(`lanes`); calls' real latencies correct the profile (`health`), and failures take a variant out for
a while (`rotation`).

Price: look-ahead costs O(queue) a batch, bounded by `choice.PROBES`; `benchmarks/scheduler_cost.py`
prints it. At the first instant of a surge some accuracy is bought that the surge then lacks.

Tried in simulation (Poisson, gamma with CV^2 4, MMPP, steps and spikes at 0.1 to 5 times capacity;
five families with flat and steep batch curves and mixed threads; 1 to 4 cores; deadlines of 2 to 20
calls; lognormal noise, stalls of 5x, throttling by 2x, profiles wrong by half):

- The slack rule alone flips at every batch and collapses past capacity, as others report of it.
  Planning for max(fast, slow) takes the noise of Poisson arrivals for a surge and costs accuracy at
  steady load; two standard deviations are left to chance (`rates`).
- Deadlines alone let a queue of bounded length overflow where they are long: 6 % refused at a tenth
  of capacity. So a batch must end before arrivals fill the queue, at the rate since the last tick.
- Using all slack for accuracy leaves none for a surge. Half a deadline, or a full call on the
  thriftiest variant if that is more, is kept behind every batch: over 60 traces, overloads among
  them, mean effective accuracy rose from 0.6292 to 0.6308, late answers fell from 0.09 to 0.04 %.
  With 0.65 or 0.8 accuracy falls where load is low; kept beside the full call, by 2 points there.
- p95 times ratio is exceeded by far more than 5 % of calls under noise. A learned factor for the
  tail, exceeded by 2 %, cut late answers to between a quarter and two thirds.
- A margin of 1.25 for 1.1, or a target load of 0.8 for 0.9, gains 0.4 points under heavy noise and
  costs up to 0.1 elsewhere; both stand halfway. Calls of up to 0.35 of a deadline instead of 0.5
  cost half a point where deadlines are mixed.
- Fairness by what waits fails where one client's requests overtake (shorter deadlines, higher
  priority): 2 % of an honest client's requests were answered beside a flood. By what was granted
  lately, all of them are.

Source:
    Romero et al., INFaaS (ATC 2021); Zhang et al., Model-Switching (HotCloud 2020); Khare et
    al., SuperServe (NSDI 2025); Ahmad et al., Proteus (ASPLOS 2024); Wan et al., ALERT
    (ATC 2020).
"""
