"""What a training tells: metrics, incidents, progress, and the experiment trackers that want to know them.

`records` keeps files that a resumed run continues byte for byte, `health` finds what goes wrong, `incidents`
says it, `observation` is the one object that the training loop talks to, and each `to_*` file is the adapter
of one tracker. Nothing here needs torch, and nothing here decides a weight.
"""
