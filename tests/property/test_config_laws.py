"""Laws of configurations: what is written reads back, and no text whatever breaks the reader."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from bioplaus import config
from bioplaus.config import text
from bioplaus.config.parts import merged
from bioplaus.errors import ConfigError

WORDS = st.sampled_from(
    ["usf", "a b", "none", "null", "off", "yes", "~", "ß", "#", "a: b", "[", "- x", "'", '"', "\n", " "]
)
NUMBERS = st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["p", "q", "ref"]), inner, max_size=3),
    max_leaves=5,
)
SPECS = st.fixed_dictionaries(
    {"recipe": st.sampled_from(["x", "lp", "a b"])}, optional={"p": PLAIN, "ref": PLAIN, "n": NUMBERS}
)
CHANGES = st.dictionaries(st.sampled_from(["p", "n", "ref"]), PLAIN, min_size=1)


@settings(max_examples=60)
@given(
    defaults=st.fixed_dictionaries({}, optional={"channel": SPECS, "norm": SPECS, "plasticity": SPECS}),
    layers=st.dictionaries(
        st.sampled_from(["conv1", "fc*", "$last", "$hidden"]), st.fixed_dictionaries({"pruning": SPECS})
    ),
    seed=st.integers(0, 2**63 - 1),
    clip=st.none() | st.floats(1e-300, 1e300),
)
def test_what_is_dumped_loads_back_the_same(defaults, layers, seed, clip):
    rule = {"defaults": defaults, "layers": layers, "seed": seed, "training": {"clip": clip}}
    loaded = config.load(rule, network="lenet")
    document = text.parse(config.dump(loaded), label="config.yaml")
    assert document.problems == ()
    assert config.load(document.data) == loaded


@given(base=SPECS, first=CHANGES, second=CHANGES)
def test_changes_apply_one_after_the_other(base, first, second):
    """Where two changes touch different parameters their order does not matter; the same change twice is one."""
    once = merged(base, first)
    assert merged(once, first) == once
    assert once["recipe"] == base["recipe"]
    apart = {key: value for key, value in second.items() if key not in first}
    assert merged(merged(base, first), apart) == merged(merged(base, apart), first)
    assert merged(once, base) == base


KEYS = [
    "rule",
    "defaults",
    "norm",
    "layers",
    "training",
    "epochs",
    "phases",
    "update",
    "rate",
    "recipe",
    "network",
    "seed",
]
FRAGMENTS = st.sampled_from(
    [*(f"{key}: " for key in KEYS), "\n", "\n  ", "\n    ", "{", "}", "[", "]", ", ", "- ", "1", "-1.5"]
)
TEXTS = st.lists(
    FRAGMENTS | WORDS | st.sampled_from(["&a ", "*a", "!!int ", "!x ", "? ", "<<: ", "\t", "|\n", ".inf"])
).map("".join)


@settings(max_examples=300)
@given(TEXTS | st.text())
def test_any_text_is_read_or_refused_in_words(written):
    """Nothing but a ConfigError of whole lines comes out of the reader, whatever goes in."""
    try:
        document = text.parse(written, label="r.yaml")
        config.load(document.data, network="lenet") if isinstance(document.data, dict) else None
    except ConfigError as error:
        assert all(line.strip() for line in str(error).splitlines())
