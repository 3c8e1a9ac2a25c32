"""Operations left after pruning: tables 16 to 21 of the NINAI report, computed again from their own entries."""

from __future__ import annotations

import pytest

from bioplaus.backend.numpy import NumPy
from bioplaus.backend.window import Window
from bioplaus.layers.conv import ConvMap, ConvTransposedMap
from bioplaus.layers.dense import DenseMap
from bioplaus.ops import flops

# LeNet-5: weights, operations, activations after pooling, units before.
LENET = {
    "conv1": (500, 576_000, 2880, 11520),
    "conv2": (25_000, 3_200_000, 800, 3200),
    "fc1": (400_000, 800_000, 500, 500),
    "fc2": (5_000, 10_000, 10, 10),
}
# active, kept (of weights; of neurons in table 18), operations left, in percent as printed; the last row is the total.
SUPERVISED = {
    16: ([(82, 66, 66), (72, 12, 10), (55, 8, 6), (100, 19, 10)], (77, 8, 16)),
    17: ([(88, 66, 66), (38, 7, 6), (53, 8, 3), (100, 26, 14)], (74, 8, 13)),
    18: ([(55, 59, 59), (13, 10, 6), (14, 19, 2), (100, 100, 14)], (42, 47, 12)),
}
# The 5-layer deep rendering model: weights, operations up and down, activations, units, places it renders to.
DRMM = [
    (800, 2 * 800 * 32**2, 2 * 800 * 28**2, 8192, 32768),
    (18_432, 2 * 18_432 * 14**2, 2 * 18_432 * 16**2, 12544, 12544),
    (36_864, 2 * 36_864 * 16**2, 2 * 36_864 * 14**2, 4096, 16384),
    (73_728, 2 * 73_728 * 6**2, 2 * 73_728 * 8**2, 4608, 4608),
    (1_280, 2 * 1_280 * 6**2, 2 * 1_280 * 6**2, 360, 360),
    (100, 200, 20, 10, 0),
]
# active, active on the way down, kept, operations left.
BOTH_WAYS = {
    19: (
        [(40, 10, 36, 22), (41, 41, 33, 13), (63, 16, 35, 11), (35, 35, 25, 11), (100, 56, 100, 46)],
        (43, 19, 30, 12),
    ),
    20: ([(15, 4, 25, 15), (30, 25, 35, 7), (56, 14, 20, 5), (28, 27, 84, 31), (100, 57, 100, 43)], (29, 12, 59, 12)),
    21: ([(30, 7, 33, 9), (26, 26, 38, 19), (45, 11, 38, 14), (1, 1, 4, 0.6), (100, 33, 100, 67)], (27, 11, 34, 12)),
}
ALL = (100, 100, 100, 100)  # the softmax


LOWER = {
    19: 0.6,
    20: 1.02,
}  # totals of activity that are printed below what their entries give: 43 for 43.55, 29 for 30.01


def agree(computed, printed, by=0.5):
    """Rounds to what is printed; the one entry with a decimal, 0.6 for 0.654, comes of entries of 1 %."""
    by = 0.06 if printed == 0.6 else by
    assert abs(computed - printed) <= by + 1e-9, (computed, printed)


@pytest.mark.parametrize("table", SUPERVISED)
def test_lenet5(table):
    rows, (active, kept, left) = SUPERVISED[table]
    weights, whole, activations, units = zip(*LENET.values(), strict=True)
    below, found = 100.0, []
    for own, share, printed in rows:
        found.append(flops.left(share, below, of=100.0))
        agree(found[-1], printed)
        below = own
    agree(flops.total([row[0] for row in rows], activations), active)
    agree(flops.total([row[1] for row in rows], units if table == 18 else weights), kept)
    agree(flops.total(found, whole), left)


@pytest.mark.parametrize("table", BOTH_WAYS)
def test_five_layers_that_render(table):
    rows, (active, active_down, kept, left) = BOTH_WAYS[table]
    weights, ups, downs, activations, units = zip(*DRMM, strict=True)
    below, found = 100.0, []
    for (own, down, share, printed), up, back in zip(rows, ups, downs, strict=False):
        if table == 21:  # as it is printed, with the layer's own activity, where table 18 has that of the layer before
            ways = flops.left(share, own, of=100.0), down
        else:
            ways = flops.left(share, below, of=100.0), flops.left(share, down, of=100.0)
        found.append(flops.total(ways, (up, back)))
        agree(found[-1], printed)
        below = own
    found.append(100.0)
    rows = [*rows, ALL]
    agree(flops.total([row[0] for row in rows], activations), active, by=LOWER.get(table, 0.5))
    agree(flops.total([row[1] for row in rows[:5]], units[:5]), active_down)
    of_what = units[:5] if table == 21 else weights
    agree(flops.total([row[2] for row in rows[: len(of_what)]], of_what), kept)
    agree(flops.total(found, [up + down for up, down in zip(ups, downs, strict=True)]), left)


def test_a_layer_costs_two_operations_per_weight_and_place():
    """Counted by hand: every output of a convolution is one product of its window."""
    xp = NumPy("float64")
    sizes = {
        "conv1": ConvMap(xp, Window((5, 5), (1, 1), (0, 0, 0, 0), (28, 28)), (1, 20)),
        "conv2": ConvMap(xp, Window((5, 5), (1, 1), (0, 0, 0, 0), (12, 12)), (20, 50)),
        "fc1": DenseMap(xp, (800,), (500,)),
        "fc2": DenseMap(xp, (500,), (10,)),
    }
    assert {name: flops.whole(map) for name, map in sizes.items()} == {name: row[1] for name, row in LENET.items()}
    grown = ConvTransposedMap(xp, Window((2, 2), (2, 2), (0, 0, 0, 0), (8, 8)), (3, 5))
    assert flops.whole(grown) == 2 * (3 * 5 * 2 * 2) * (4 * 4)
    apart = ConvTransposedMap(xp, Window((3, 3), (2, 2), (0, 0, 0, 0), (9, 9)), (1, 1))  # strides do not divide kernels
    assert flops.whole(apart) == 2 * 9 * (4 * 4)  # every input goes to nine outputs
    assert flops.whole_down(grown) == 2 * (3 * 5 * 2 * 2) * (4 * 4)


def test_rendering_costs_two_operations_per_weight_and_place_rendered():
    xp = NumPy("float64")
    full, valid = (4, 4, 4, 4), (0, 0, 0, 0)
    layers = [
        ConvMap(xp, Window((5, 5), (1, 1), full, (28, 28)), (1, 32)),
        ConvMap(xp, Window((3, 3), (1, 1), valid, (16, 16)), (32, 64)),
        ConvMap(xp, Window((3, 3), (1, 1), (2, 2, 2, 2), (14, 14)), (64, 64)),
        ConvMap(xp, Window((3, 3), (1, 1), valid, (8, 8)), (64, 128)),
        ConvMap(xp, Window((1, 1), (1, 1), valid, (6, 6)), (128, 10)),
    ]
    assert [flops.whole(map) for map in layers] == [row[1] for row in DRMM[:5]]
    assert [flops.whole_down(map) for map in layers] == [row[2] for row in DRMM[:5]]
    assert flops.whole_down(DenseMap(xp, (10,), (10,))) == 200
    apart = ConvMap(xp, Window((2, 2), (2, 2), valid, (8, 8)), (3, 5))  # every place is drawn by one weight of a filter
    assert flops.whole_down(apart) == flops.whole(apart) == 2 * (3 * 5) * (8 * 8)
    assert sum(row[0] for row in DRMM) == 131_204
    assert sum(row[1] for row in DRMM) == 33_138_888 and sum(row[2] for row in DRMM) == 34_671_636
