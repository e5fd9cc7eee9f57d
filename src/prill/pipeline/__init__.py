"""From a recipe to a graph of steps, and through it.

    read -> eligible -> tokenizer -> tokens -> fit -> scores -> selection -> dataset
                                                        \\-> encode -> trials -> conclusion -> report

Each module holds the steps of one stretch of the way; `run` walks it.
"""
