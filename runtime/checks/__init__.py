"""What a check on live traffic is: the interface that ours and third parties' implement.

Found by entry point ``scanflow_serve.checks``. The serving process gives checks numpy arrays and
nothing else: a check that needs scipy, torch or river says so by `extra`.
"""
