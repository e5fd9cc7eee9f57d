"""What is in a corpus: statistics that merge, concept frequencies, the facts behind the corpus report."""
