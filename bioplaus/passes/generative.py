"""Up as a convnet, which infers; down through the switches inferred, which renders: the deep rendering mixture model.

    generation      z^(L) = mu_c,  u = a t z^(l),  z^(l-1) = conv_T(u, W),  image = z^(0) + noise
    inference       n = conv(I^(l-1), W),  t = argmax over the pool of n,  a = [n > 0],  I^(l) = MaxPool(ReLU(n))
                    q(c | image) = softmax(mu I^(L))

A ReLU network is the max-sum inference of that model, exactly so where all z^(l), l >= 1, are at least 0: over all
classes c and switches a, t the largest <mu_cg, image> is the largest output. The same arrays W lead up and down. Going
down there are no biases, norms, gains and activations, only switches; they are constants on the way back.

Source: NINAI report (2017), section 2; Patel, Nguyen & Baraniuk (2016), A probabilistic framework for deep learning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Literal

from bioplaus.backend.base import Array, Backend
from bioplaus.backend.streams import Stream
from bioplaus.errors import ConfigError, ShapeError
from bioplaus.parts import At, Batch, Learn, Site
from bioplaus.passes.feedforward import back_from_output
from bioplaus.units import Chain, Node, NormSite, Outlet, Watch, walk

TEMPLATE = ".template"


@dataclass(frozen=True)
class Generative:
    """Layers in order, and down again from a class, where a loss or a layer's plasticity asks for it.

    It provides ``image``, ``reconstruction`` and ``<layer>.template``: what reaches the layer from above, spread over
    its pools, before any switch. ``topdown_class``: what is rendered in training, the class inferred, the label where
    there is one, or a class drawn from q(c | image); in testing always the class inferred. ``signed``: a second way up
    with the signs s of the templates of the first, I^(l) = s MaxPool(ReLU(s n)), for templates of both signs.

    Source: NINAI report (2017), section 2; Patel, Convnets from first principles (slides), for ``signed``.
    """

    renders: ClassVar[bool] = True
    topdown_class: Literal["argmax", "label", "sample"] = "argmax"
    signed: bool = False

    def place(self, site: Site, network: Any) -> UpAndDown:
        """All layers as one chain, which nobody below or above listens to.

        Raises
        ------
        ShapeError      a layer that nothing can be rendered through, or an output that is not a number per class
        ConfigError     norms with statistics of the batch where the way up is signed
        """
        shape = tuple(network.input)
        root, output = site.chain(network.layers, shape)
        sites = (unit for unit in walk(root) if isinstance(unit, NormSite))
        remembering = [site.name for site in sites if getattr(site.norm, "by_sample", None) is False]
        if self.signed and remembering:
            raise ConfigError(
                f"{network.where('pass', 'signed')}: inference goes up twice, and batch statistics of layer "
                f"{remembering[0]!r} would be of both ways. Take a norm of each sample, as layer, or norm: none."
            )
        if len(output) != 1:
            raise ShapeError(f"pass generative: the output is {list(output)}, wanted a number per class. End in dense.")
        assert isinstance(root, Chain)
        root.wire(False)
        root.wire_down(False)
        templates = {f"{unit.name}{TEMPLATE}": unit for unit in walk(root) if isinstance(unit, Node)}
        looked_at = {name for name in templates if any(fnmatchcase(name, need) for need in site.signals)}
        return UpAndDown(
            xp=site.xp,
            root=root,
            input=shape,
            output=output,
            topdown_class=self.topdown_class,
            signed=self.signed,
            stream=site.stream("class"),
            shapes={"image": shape, "reconstruction": shape}
            | {name: tuple(node.map.output) for name, node in templates.items()},
            templates=frozenset(looked_at),
            renders=bool(looked_at) or "reconstruction" in site.signals,
            local=any(unit.wants_rendering for unit in templates.values()),
        )


@dataclass(frozen=True)
class UpAndDown:
    """The pass: inference, rendering, and the ways back of both.

    Attributes
    ----------
    shapes : of one sample of every signal beside the output
    templates : those that a loss looks at
    renders : a loss looks at what is rendered, so that layers learn on both ways
    local : some layer learns from what is rendered
    """

    xp: Backend
    root: Chain
    input: tuple[int, ...]
    output: tuple[int, ...]
    topdown_class: str
    signed: bool
    stream: Stream
    shapes: Mapping[str, tuple[int, ...]]
    templates: frozenset[str]
    renders: bool
    local: bool

    @property
    def revisits(self) -> bool:
        """Whether a layer may learn twice from one batch."""
        return self.renders

    @property
    def provides(self) -> set[str]:
        """Names of all signals."""
        return {"output", *self.shapes}

    @property
    def units(self) -> tuple[Chain]:
        """For whoever walks."""
        return (self.root,)

    def forward(self, batch: Batch, at: At) -> tuple[dict[str, Array], Any]:
        """({"output": (N, classes), and what is rendered where that is wanted}, tape)."""
        down = (at.render and self.renders) or (at.train and self.local)
        output, tape = self.infer(batch.x, at._replace(render=down))
        if not down:
            return {"output": output}, (tape, None)
        signals = {"output": output, "image": batch.x}

        def keep(unit: Any, seen: Any, z: Array, template: Array) -> Any:
            if isinstance(unit, Node) and f"{unit.name}{TEMPLATE}" in self.templates:
                signals[f"{unit.name}{TEMPLATE}"] = template
            return seen

        classes = self.xp.one_hot(self.chosen(output, batch, at), self.output[0])
        signals["reconstruction"], trace = self.root.render(classes, tape, keep if self.templates else None)
        return signals, (tape, trace)

    def infer(self, x: Array, at: At) -> tuple[Array, Any]:
        """(output, tape); twice up where templates have signs."""
        if self.signed:
            output, tape = self.root.forward(x, at._replace(track=False, render=True))
            best = self.xp.one_hot(output.argmax(-1), self.output[0])
            self.root.render(best, tape, self.give_sign)
            for outlet in (unit for unit in walk(self.root) if isinstance(unit, Outlet)):
                outlet.values.clear()  # a loss looks at the second way up
        return self.root.forward(x, at)

    def give_sign(self, unit: Any, seen: Any, z: Array, template: Array) -> Any:
        """The next way up knows the sign of what would be rendered here."""
        if hasattr(unit, "sign"):
            unit.sign = self.xp.sign(template)
        return seen

    def chosen(self, output: Array, batch: Batch, at: At) -> Array:
        """The class of every sample that is rendered, (N,)."""
        xp = self.xp
        if at.train and self.topdown_class == "sample":
            u = xp.zeros(output.shape)
            xp.uniform(self.stream.at(at.batch, at.visit), u)
            waiting = -xp.log(1.0 - u) * xp.exp(-xp.log_softmax(output))
            return waiting.argmin(-1)  # the shortest of exponential times wins
        known = at.train and self.topdown_class == "label" and batch.labelled is None
        return batch.y if known else output.argmax(-1)

    def back(self, errors: Mapping[str, Array], tape: Any, learn: Learn) -> None:
        """From the error at the output down; then from errors at what was rendered up."""
        rising, trace = tape
        back_from_output(self.root, errors["output"], rising, learn)
        if trace is None:
            return
        at_templates = {name.removesuffix(TEMPLATE): e for name, e in errors.items() if name.endswith(TEMPLATE)}
        if at_templates or "reconstruction" in errors:
            self.root.render_back(errors.get("reconstruction"), trace, learn, at_templates)

    def render(self, z: Array, tape: Any, watch: Watch | None = None) -> Array:
        """The images that z (N, classes) gives through the switches of a tape, or those that ``watch`` puts there."""
        return self.root.render(z, tape, watch)[0]
