"""A simulator for biologically plausible learning rules."""
