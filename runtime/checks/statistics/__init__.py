"""Statistics of checks on live traffic, in numpy alone: the serving process has nothing else.

A score becomes a conformal p-value (`conformal`), which is uniform as long as traffic is like the
reference, whatever the score and its unit. A bet against that (`edetector`, `balance`, `windows`)
has a wealth whose mean is at most the rows seen; an alarm at A comes no sooner than after A rows on
average, and wealths of several bets on the same rows may be averaged (`portfolio`). Figures that
decided between designs are in the modules that they decided.
"""
