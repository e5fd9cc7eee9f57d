"""The demonstration: a real corpus that any machine has, two targets, and the whole way through Prill.

The corpus is the text of the Python installation itself. `machine_text` finds and cuts it, `build` writes
it beside a recipe that a person can read, change and run again.
"""
