"""Training: the loop, its moments, and what a run writes."""
