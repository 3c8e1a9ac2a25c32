"""Parts broken on purpose: each fails its contract, and the message names what is wrong."""

import numpy as np
import pytest

from bioplaus import testing
from bioplaus.backend.numpy import NumPy
from bioplaus.errors import PartError, ShapeError
from bioplaus.layers.dense import Dense, DenseMap
from bioplaus.norms.recipes import batch
from bioplaus.norms.stats import Streaming
from bioplaus.passes.feedforward import Feedforward, UpAndBack
from bioplaus.testing import check
from bioplaus.updates.links import Momentum, Rate, Sign


class Mirror:
    """A notebook's channel, without a claim: right as it is."""

    def init(self, map, W, top, stream):
        return {"V": W + 0.0}

    def refresh(self, map, W, state, stream):
        state["V"][...] = W

    def carry(self, map, dn, top, state):
        return map.down(dn, state["V"])


class Covariance:
    needs = {"x", "y"}

    def dW(self, local, map, W, out, scale):
        map.outer(local.x - local.x.mean(-2, keepdims=True), local.y - local.y.mean(-2, keepdims=True), out, scale)


class Half:
    def init(self, xp, W):
        return {}

    def step(self, xp, d, W, state, role, out):
        return xp.multiply(d, 0.5, out=out)


class Fading:
    def at(self, done, total):
        return 0.9**done


class Summed:
    """Loss: half the squared output."""

    needs = {"output"}

    def error(self, xp, signals, batch, state, at):
        output = signals["output"]
        weight = np.ones(len(output)) if batch.weight is None else batch.weight
        return 0.5 * ((output * output).sum(-1) * weight).sum(), {"output": output * weight[:, None]}

    def wrong(self, xp, signals, batch):
        weight = np.ones(len(batch.y)) if batch.weight is None else batch.weight
        return ((signals["output"].argmax(-1) != batch.y) * weight).sum()


class Shifted:
    """Norm: takes each sample's mean away."""

    removes_bias = False
    collects = 0

    def init(self, xp, shape, visits=1, groups=1):
        if groups > 1:
            raise ShapeError("one mean for all channels")
        return {}

    def forward(self, xp, n, state, at):
        return n - n.mean(tuple(range(1, n.ndim)), keepdims=True), None

    def back(self, xp, dz, state, cache):
        return dz - dz.mean(tuple(range(1, dz.ndim)), keepdims=True)

    def begin_collecting(self, state):
        pass

    def updated(self, xp, state):
        pass


class Doubled:
    """Layer: y = 2 x."""

    def place(self, site, shape):
        return DoubledUnit(), shape


class DoubledUnit:
    def wire(self, below):
        return below

    def forward(self, x, at):
        return 2.0 * x, None

    def back(self, dy, cache, top, learn):
        return 2.0 * dy


class Thinned:
    """Pruning: after the second epoch the small half is gone."""

    of = "synapses"
    needs = set()

    def init(self, map, shape):
        return {}

    def observe(self, map, local, W, state):
        pass

    def due(self, epoch):
        return epoch == 2

    def left(self, size):
        return None

    def use(self, map, W, state):
        return abs(W)

    def mask(self, map, W, mask, state, epoch):
        return mask * (abs(W) > 0.5)


class Quarter:
    """Cut: after the first epoch all but the most used quarter is gone."""

    judges = ""

    def due(self, epoch):
        return epoch == 1

    def left(self, size):
        return size // 4

    def survivors(self, seen, epoch):
        return seen.use >= np.sort(seen.use.reshape(-1))[-(seen.use.size // 4)]


class Pair:
    """Data set: two classes of two numbers each."""

    network = None
    shape = (2,)
    classes = 2
    preset = {}
    files = ()

    def load(self, data_dir):
        return np.zeros((4, 2)), np.array([0, 1, 0, 1]), np.zeros((2, 2)), np.array([0, 1])


RIGHT = {
    "channel": Mirror,
    "plasticity": Covariance,
    "link": Half,
    "schedule": Fading,
    "loss": Summed,
    "norm": Shifted,
    "layer": Doubled,
    "pruning": Thinned,
    "cut": Quarter,
    "dataset": Pair,
}


def _always(self, epoch):
    return epoch > 0


@pytest.mark.parametrize("kind", RIGHT)
def test_a_plain_class_that_is_right_passes(kind):
    assert check(kind, RIGHT[kind]())


def variant(kind, **changes):
    """The right part with some of it replaced."""
    return type("Broken", (RIGHT[kind],), changes)()


def without_mean(self, local, map, W, out, scale):
    map.outer(local.x, local.y, out, scale)


def writes(field):
    def dW(self, local, map, W, out, scale):
        (W if field == "W" else getattr(local, field))[...] *= 0.5
        map.outer(local.x, local.y, out, scale)

    return dW


def changing_W(self, map, W, *rest):
    W *= 2.0
    return {"V": W + 0.0}


def new_V(self, map, W, state, stream):
    state["V"] = W + 0.0


def drawn_from_nowhere(self, map, W, top, stream):
    return {"V": np.random.default_rng().normal(size=W.shape)}


def carry_scaling_dn(self, map, dn, top, state):
    dn *= 0.5
    return map.down(dn, state["V"])


def counting_carry(self, map, dn, top, state):
    state["n"] = state.get("n", 0.0) + 1.0
    return map.down(dn, state["V"]) * state["n"]


BROKEN_CHANNELS = {
    "has the method carry": {"carry": None},
    "init leaves W": {"init": changing_W},
    "V has W's shape": {"init": lambda self, map, W, top, stream: {"V": np.zeros((2, 2))}},
    "carry gives the error in the shape of x": {"carry": lambda self, map, dn, top, state: dn},
    "carry gives finite numbers": {"carry": lambda self, map, dn, top, state: map.down(dn, state["V"]) / 0.0},
    "carry leaves dn": {"carry": carry_scaling_dn},
    "carry gives the same error": {"carry": counting_carry},
    "exact_gradient: carry is": {
        "exact_gradient": True,
        "carry": lambda self, map, dn, top, state: -map.down(dn, state["V"]),
    },
    "no exact_gradient": {"exact_gradient": False},
    "signs_agree: sign V": {"signs_agree": True, "init": lambda self, map, W, top, stream: {"V": -W}},
    "V is not zero everywhere": {"signs_agree": True, "init": lambda self, map, W, top, stream: {"V": 0.0 * W}},
    "fixed: V never changes": {"fixed": True},
    "not fixed: V changes": {"fixed": False, "refresh": lambda self, map, W, state, stream: None},
    "rewrites V in place": {"refresh": new_V},
    "refresh leaves W": {"refresh": lambda self, map, W, state, stream: W.fill(1.0)},
    "the same stream gives the same V": {"init": drawn_from_nowhere},
    "it raised ZeroDivisionError": {"refresh": lambda self, map, W, state, stream: 1 / 0},
}


@pytest.mark.parametrize("message", BROKEN_CHANNELS)
def test_broken_channels(message):
    with pytest.raises(PartError, match=f"^channel 'Broken' breaks its contract: .*{message}"):
        check("channel", variant("channel", **BROKEN_CHANNELS[message]))


def test_sign_of_zero_is_zero_in_a_channel_whose_signs_agree():
    def positive_zero(self, map, W, top, stream):
        return {"V": np.where(W >= 0, 1.0, -1.0)}

    with pytest.raises(PartError, match="signs_agree: sign V = sign W"):
        check("channel", variant("channel", signs_agree=True, init=positive_zero))


BROKEN_PLASTICITIES = {
    "needs names fields of Local": {"needs": {"x", "z"}},
    "local: needs no error": {"needs": {"x", "dn"}, "local": True},
    "it raised AttributeError": {"needs": {"x"}},
    "with no more than it needs": {"dW": lambda self, local, map, W, out, scale: None},
    "dW leaves W": {"dW": writes("W")},
    "dW leaves W and what it saw": {"dW": writes("y")},
    "dW is linear in scale": {"dW": lambda self, local, map, W, out, scale: map.outer(local.x, local.y, out, scale**2)},
    "dW adds to what out holds": {
        "dW": lambda self, local, map, W, out, scale: map.outer(local.x, local.y, out, scale, 0.0)
    },
    "overwrites: with keep 0": {"overwrites": True, "dW": without_mean},
}


@pytest.mark.parametrize("message", BROKEN_PLASTICITIES)
def test_broken_plasticities(message):
    with pytest.raises(PartError, match=message):
        check("plasticity", variant("plasticity", **BROKEN_PLASTICITIES[message]))


def into_d(self, xp, d, W, state, role, out):
    d *= 0.5
    return d


BROKEN_LINKS = {
    "step leaves W": {"step": lambda self, xp, d, W, state, role, out: xp.add_scaled(W, d, -0.1, out=W)},
    "step leaves d as it was": {"step": into_d},
    "the same where out is d": {
        "step": lambda self, xp, d, W, state, role, out: xp.add_scaled(xp.multiply(d, 0.5, out=out), d, 1.0, out=out)
    },
    "sign\\(0\\) = 0": {"step": lambda self, xp, d, W, state, role, out: np.where(d >= 0, 1.0, -1.0)},
    "in dW's sign": {"step": lambda self, xp, d, W, state, role, out: -d},
    "do not decay": {"step": lambda self, xp, d, W, state, role, out: d + 0.1 * W},
    "step gives d in W's shape": {"step": lambda self, xp, d, W, state, role, out: d.sum()},
    "steps are finite": {
        "init": lambda self, xp, W: {"steps": np.zeros(1)},
        "step": lambda self, xp, d, W, state, role, out: d / (1.0 - np.add(state["steps"], 0.5, out=state["steps"])),
    },
    "state has W's shape": {"init": lambda self, xp, W: {"m": np.zeros(7)}},
    "init gives a dict": {"init": lambda self, xp, W: ()},
    "state keeps its arrays": {"step": lambda self, xp, d, W, state, role, out: state.setdefault("d", d + 0.0)},
}


@pytest.mark.parametrize("message", BROKEN_LINKS)
def test_broken_links(message):
    with pytest.raises(PartError, match=message):
        check("link", variant("link", **BROKEN_LINKS[message]))


@pytest.mark.parametrize(
    ("links", "message"),
    [
        ([Sign()], "is a tuple of links"),
        ((), "is a tuple of links"),
        ((Sign(), Momentum(0.9)), "ends with rate"),
        ((variant("link", step=into_d), Rate(1.0)), "step leaves d"),
    ],
)
def test_broken_updates(links, message):
    with pytest.raises(PartError, match=message):
        check("update", links)


class Wrapped:
    """Batch normalization with some of it replaced."""

    def __init__(self, **changes):
        self.inner = batch()
        self.__dict__ |= changes

    def __getattr__(self, name):
        return getattr(self.inner, name)


def through(name, change):
    """A Wrapped norm whose method ``name`` gives a changed answer."""
    return Wrapped(**{name: lambda *args: change(getattr(batch(), name)(*args))})


def forgetting_statistics(xp, dz, state, cache):
    _, _, sigma = cache
    return dz / sigma.reshape((1, -1, *(1 for _ in dz.shape[2:])))


def tracking_always(xp, n, state, at):
    return batch().forward(xp, n, state, at._replace(track=True))


def training_always(xp, n, state, at):
    return batch().forward(xp, n, state, at._replace(train=True, track=False))


BROKEN_NORMS = {
    "removes_bias is true or false": Wrapped(removes_bias=None),
    "no removes_bias: it matters": Wrapped(removes_bias=False),
    "removes_bias: a constant per unit changes nothing": variant("norm", removes_bias=True),
    "collects is a number of batches": Wrapped(collects=None),
    "back is the derivative of forward": through("back", lambda dn: -dn),
    "derivative": Wrapped(back=forgetting_statistics),
    "a look without tracking leaves no trace": Wrapped(forward=tracking_always),
    "a sample does not depend on its batch": Wrapped(forward=training_always),
    "finite numbers of n's shape": through("forward", lambda found: (found[0] * np.nan, found[1])),
    "has the method updated": Wrapped(updated=None),
}


@pytest.mark.parametrize("message", BROKEN_NORMS)
def test_broken_norms(message):
    with pytest.raises(PartError, match=message):
        check("norm", BROKEN_NORMS[message])


def test_a_norm_that_says_its_way_back_is_no_gradient_may_differ():
    assert check("norm", Wrapped(back=forgetting_statistics, exact_gradient=False))


def unweighted(self, xp, signals, batch, state, at):
    return 0.5 * (signals["output"] ** 2).sum(), {"output": signals["output"] + 0.0}


def spoiling(self, xp, signals, batch, state, at):
    found = Summed().error(xp, signals, batch, state, at)
    signals["output"] *= 2.0
    return found


class Drifting(Summed):
    """It remembers how many batches it saw, those it only looked at too."""

    def init(self, xp, shapes, stream):
        return {"seen": xp.zeros((1,))}

    def error(self, xp, signals, batch, state, at):
        state["seen"] += 1.0
        return super().error(xp, signals, batch, state, at)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"error": lambda self, *a: (Summed().error(*a)[0], {"output": -Summed().error(*a)[1]["output"]})},
            "is the derivative of the loss",
        ),
        ({"error": unweighted}, "samples of weight 0 count for nothing"),
        ({"error": lambda self, xp, s, *a: (Summed().error(xp, s, *a)[0], dict(s))}, "an error is an array of its own"),
        ({"error": spoiling}, "a look leaves signals and memory alone"),
        ({"wrong": lambda self, xp, signals, batch: 0.5}, "wrong counts samples"),
        ({"needs": set()}, "needs names signals"),
        ({"error": lambda self, *a: (Summed().error(*a)[0], {"elsewhere": 0.0})}, "gives errors at signals it needs"),
    ],
)
def test_broken_losses(changes, message):
    with pytest.raises(PartError, match=message):
        check("loss", variant("loss", **changes))


def test_a_loss_whose_memory_moves_when_it_is_looked_at():
    with pytest.raises(PartError, match="a look leaves signals and memory alone"):
        check("loss", Drifting())


def placing(unit_changes=(), shape=None):
    unit = type("Unit", (DoubledUnit,), dict(unit_changes))()
    return {"place": lambda self, site, given: (unit, shape or given)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (placing({"back": lambda self, dy, cache, top, learn: dy}), "back is the derivative of forward in x"),
        (placing({"back": lambda self, dy, cache, top, learn: None}), "back gives the error in the shape of x"),
        (placing({"forward": lambda self, x, at: (np.multiply(x, 2.0, out=x), None)}), "forward leaves x as it was"),
        (placing(shape=(5,)), "forward gives the shape that place announced"),
        ({"place": lambda self, site, shape: (None, (1, *shape))}, "without a unit the shape stays"),
        ({"has_weights": True}, "has_weights: asks its site for a node"),
        ({"place": Dense(6).place}, "without has_weights it asks for no node"),
    ],
)
def test_broken_layers(changes, message):
    with pytest.raises(PartError, match=message):
        check("layer", variant("layer", **changes))


def outer_with(**forced):
    """A dense map's outer with some of its arguments replaced by what they should not be."""

    def outer(self, x, n, out, scale=1.0, keep=1.0, bias=None):
        given = {"scale": scale, "keep": keep, "bias": bias} | forced
        DenseMap.outer(self, x, n, out, **given)

    return {"outer": outer}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"down": lambda self, n, V: 2.0 * DenseMap.down(self, n, V)}, r"<up\(x, W\), n> = <x, down\(n, W\)>"),
        (outer_with(scale=-1.0), r"= <W, outer\(x, n\)>"),
        (outer_with(bias=None), "gives the bias its sum of n"),
        (outer_with(keep=1.0), "keep 0 ignores what out held"),
        (outer_with(keep=0.0), r"keep \* out \+ scale \* dW"),
        ({"up": lambda self, x, W, b=None: DenseMap.up(self, x, W)}, "up adds b"),
    ],
)
def test_broken_maps(changes, message):
    broken = type("Broken", (DenseMap,), changes)(NumPy("float64"), (3,), (2,))
    with pytest.raises(PartError, match=message):
        check("map", broken)


def test_a_pass_that_turns_the_error_round_is_found():
    class Turned(UpAndBack):
        def back(self, errors, tape, learn):
            super().back({name: -error for name, error in errors.items()}, tape, learn)

    class Broken(Feedforward):
        def place(self, site, network):
            pass_ = super().place(site, network)
            return Turned(pass_.root, pass_.output)

    assert check("pass", Feedforward())
    with pytest.raises(PartError, match="back gives every weight the derivative"):
        check("pass", Broken())


@pytest.mark.parametrize(
    ("at", "message"),
    [
        (lambda self, done, total: -1.0, "factors are finite, 0 or more"),
        (lambda self, done, total: float("nan"), "factors are finite"),
        (lambda self, done, total: np.random.default_rng().random(), "the same factor when asked again"),
    ],
)
def test_broken_schedules(at, message):
    with pytest.raises(PartError, match=message):
        check("schedule", variant("schedule", at=at))


def _spoiled(self, map, W, mask, state, epoch):
    mask *= abs(W) > 0.5
    return mask


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": lambda self, map, W, mask, state, epoch: np.ones(3)}, "a mask of synapses has their shape"),
        ({"mask": lambda self, map, W, mask, state, epoch: 0.5 * mask}, "a mask holds ones and zeros"),
        (
            {"mask": lambda self, map, W, mask, state, epoch: 1.0 * (W > 0 if epoch % 2 else W < 0), "due": _always},
            "nothing that is gone comes back",
        ),
        ({"mask": _spoiled}, "mask leaves the mask before as it was"),
        ({"of": "layers"}, "of is synapses or neurons"),
        ({"needs": {"z"}}, "needs names fields of Local"),
        ({"of": "neurons"}, "use is finite, of the mask's shape"),
        ({"observe": lambda self, map, local, W, state: W.fill(0.0)}, "W is left as it was"),
    ],
)
def test_broken_prunings(changes, message):
    with pytest.raises(PartError, match=message):
        check("pruning", variant("pruning", **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"judges": "everything"}, "judges is empty, averages or weights"),
        ({"due": lambda self, epoch: epoch < 2}, "nothing goes before the first epoch"),
        ({"left": lambda self, size: size // 3}, "left says beforehand how many there will be"),
        ({"survivors": lambda self, seen, epoch: seen.use > 9}, "something survives"),
        ({"survivors": lambda self, seen, epoch: 1.0 * seen.alive}, "survivors are true or false"),
        (
            {"survivors": lambda self, seen, epoch: seen.W > 0 if epoch % 2 else seen.W < 0, "due": _always},
            "none survi",
        ),
    ],
)
def test_broken_cuts(changes, message):
    with pytest.raises(PartError, match=message):
        check("cut", variant("cut", **changes))


def test_a_pruning_of_neurons_and_one_of_synapses_pass():
    for of, use in (("neurons", lambda self, map, W, state: np.ones((1, *map.output))), ("synapses", Thinned.use)):
        keep = {"mask": lambda self, map, W, mask, state, epoch: mask}
        assert check("pruning", variant("pruning", of=of, use=use, **keep))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (3,)}, "samples have the shape it says"),
        ({"classes": None}, "classes is 2 or more"),
        ({"load": lambda self, d: (*Pair().load(d)[:3], np.array([0, 2]))}, "labels are 0 up to classes - 1"),
        ({"preset": None}, "preset is a mapping"),
    ],
)
def test_broken_datasets(changes, message):
    with pytest.raises(PartError, match=message):
        check("dataset", variant("dataset", **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sign": lambda self, x, out=None: np.where(x >= 0, 1.0, -1.0)}, r"sign\(0\) = 0"),
        ({"relu": lambda self, x, inplace=False: np.where(x > 0, x, 0.0)}, "NaN stays NaN"),
        ({"conv_down": lambda self, *args: 2.0 * NumPy.conv_down(self, *args)}, "map 'ConvMap' .*down"),
        ({"uniform": lambda self, stream, out: out.fill(np.random.default_rng().random())}, "a function of the stream"),
        ({"add_scaled": lambda self, a, b, scale, out: a + scale * b}, "add_scaled writes into out"),
    ],
)
def test_broken_backends(changes, message):
    broken = type("Broken", (NumPy,), changes)("float64")
    with pytest.raises(PartError, match=message):
        check("backend", broken)


class Halved:
    """Transform: half of every value."""

    def fits(self, shape):
        pass

    def __call__(self, xp, x, stream):
        return x * 0.5


def halving_in_place(self, xp, x, stream):
    x *= 0.5
    return x


def unlike_before(self, xp, x, stream, memory=[1.0]):  # noqa: B006
    memory[0] *= 0.5
    return x * memory[0]


def nowhere(self, shape):
    raise ShapeError("nothing fits")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"__call__": lambda self, xp, x, stream: x[:, 1:]}, "samples keep their shape"),
        ({"__call__": halving_in_place}, "leaves x as it was"),
        ({"__call__": unlike_before}, "the same stream gives the same samples"),
        ({"__call__": lambda self, xp, x, stream: x * np.nan}, "gives finite numbers"),
        ({"fits": nowhere}, "fits samples of some shape"),
        ({"fits": None}, "has the method fits"),
    ],
)
def test_broken_transforms(changes, message):
    assert check("transform", Halved())
    with pytest.raises(PartError, match=message):
        check("transform", type("Broken", (Halved,), changes)())


class TakingHalf(Streaming):
    """Hands on half of one statistic."""

    halved = ""

    def taken(self, xp, state, name, now, at):
        return super().taken(xp, state, name, now, at) * (0.5 if name == self.halved else 1.0)


@pytest.mark.parametrize(
    ("halved", "message"), [("mean", "takes a mean that stays"), ("sigma", "comes to a sigma that stays")]
)
def test_broken_statistics(halved, message):
    assert check("norm_stats", TakingHalf())
    with pytest.raises(PartError, match=message):
        check("norm_stats", type("Broken", (TakingHalf,), {"halved": halved})())


def test_a_class_or_an_unknown_kind_is_answered():
    with pytest.raises(PartError, match=r"channel 'Mirror' is a class; the contract is for a part\. Give Mirror\(\)"):
        check("channel", Mirror)
    with pytest.raises(PartError, match="there is no contract for the kind 'colour'"):
        check("colour", Mirror())


def test_every_check_has_its_own_public_name():
    for kind, checking in testing.CHECKS.items():
        assert getattr(testing, f"check_{kind}") is checking
