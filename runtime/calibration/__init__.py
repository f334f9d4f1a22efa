"""Measures every candidate on this host, end to end as it would be served.

Each group of candidates that differ only in threads is measured in a child process of its own,
one after another: memory is then what loading really added, a model that crashes or hangs costs
one refusal and not the server, and nothing competes for the cores that are measured.
"""
