"""Rating documents by a rubric: rubrics as data, and raters that answer them."""
