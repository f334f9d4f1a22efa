"""One module a group of commands; `serving.cli` imports each when it is asked for."""
