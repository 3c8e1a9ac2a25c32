"""Forward passes: in which order units run, and back again."""
