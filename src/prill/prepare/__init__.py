"""What a raw corpus needs before it can be judged: measures, groupings, verdicts and edits, as columns."""
