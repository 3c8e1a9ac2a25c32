"""Step time and memory against eager PyTorch autograd, and what rules and logging cost: ``python -m benchmarks``."""
