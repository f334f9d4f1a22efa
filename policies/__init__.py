"""What is wanted: the policy schema, its conditions and their vocabulary, the loader, the errors.

Imports nothing of ours. `loader.load_policy` turns a file into a `loader.PolicyFile`,
or raises one `errors.PolicyError` that lists every fault at its file:line:column.
"""
