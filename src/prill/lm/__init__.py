"""The proxy language model: stacked models, packing, schedules, hyper-parameters, the loop."""
