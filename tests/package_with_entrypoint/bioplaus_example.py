"""A package as a stranger would write it: one part that works and one that is not there."""

LOADED = True


class Mirror:
    """V is a copy of W."""

    exact_gradient = True

    def init(self, map, W, top, stream):
        return {"V": W + 0.0}

    def refresh(self, map, W, state, stream):
        state["V"][...] = W

    def carry(self, map, dn, top, state):
        return map.down(dn, state["V"])
