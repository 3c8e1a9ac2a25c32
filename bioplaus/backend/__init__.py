"""Array libraries behind one seam: the only code that names torch or cupy."""
