"""From a specification to a part: what is accepted, what is refused, and in which words."""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import pytest

from bioplaus import registry
from bioplaus.construct import make, parameters
from bioplaus.errors import ConfigError, PartError
from bioplaus.registry import get

WHERE = "rules/mine.yaml:7: defaults.channel"


class Inner(Protocol):
    def work(self) -> None: ...


@dataclass(frozen=True)
class Rich:
    """Parameters of every type a file can write."""

    share: float
    count: int = 3
    on: bool = False
    word: str = "a"
    choice: Literal["slow", "fast"] = "slow"
    pair: tuple[int, int] = (1, 2)
    many: list[float] | None = None
    either: int | list[int] = 1
    inner: Inner | None = None

    def __post_init__(self):
        if not 0 <= self.share <= 1:
            raise ValueError(f"share is {self.share};\n wanted 0 to 1")


class Plain:
    """A class of a notebook, without hints."""

    def __init__(self, p=0.5, *, q=None):
        self.p, self.q = p, q


def recipe(share: float, **others: Any) -> Rich:
    return Rich(share, **others)


@pytest.fixture(autouse=True)
def parts(monkeypatch):
    monkeypatch.setattr(registry, "_added", {})
    for name, part in {"rich": Rich, "plain": Plain, "made": recipe, "ready": Plain()}.items():
        registry.add("channel", name, part)


def rich(**given):
    return make("channel", {"recipe": "rich", "share": 0.5, **given}, WHERE)


def test_a_name_and_a_mapping():
    assert make("channel", {"recipe": "rich", "share": 0.5}) == Rich(0.5)
    assert make("channel", "plain").p == 0.5
    assert make("channel", {"recipe": "made", "share": 1, "count": 4}) == Rich(1.0, count=4)


def test_numbers_lists_and_choices_are_taken_as_their_hints_want_them():
    part = rich(share=1, pair=[3, 4], many=[1, 2.5], choice="fast", either=[1, 2], on=True)
    assert part == Rich(1.0, on=True, choice="fast", pair=(3, 4), many=[1.0, 2.5], either=[1, 2])
    assert isinstance(part.share, float)
    assert isinstance(part.pair, tuple)


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("share", "0.9", "a valid number"),
        ("share", True, "a valid number"),
        ("share", None, "a valid number"),
        ("share", float("nan"), "a number"),
        ("count", 1.5, "a valid integer"),
        ("count", "3", "a valid integer"),
        ("count", True, "a valid integer"),
        ("on", 1, "a valid boolean"),
        ("on", "yes", "a valid boolean"),
        ("word", 3, "a valid string"),
        ("choice", "fats", "'slow' or 'fast'"),
        ("pair", [1], "one more item"),
        ("pair", [1, 2, 3], "no more than 2 items"),
        ("pair", 1, "a list"),
    ],
)
def test_wrong_types_are_refused_with_place_given_and_wanted(key, value, wanted):
    with pytest.raises(ConfigError) as error:
        rich(**{key: value})
    assert str(error.value) == f"{WHERE}.{key}: given {value!r}, wanted {wanted}."


def test_an_unknown_parameter_is_answered_with_the_nearest():
    with pytest.raises(ConfigError) as error:
        rich(shar=1)
    assert str(error.value) == (
        f"{WHERE}: 'rich' has no parameter 'shar'; did you mean 'share'? "
        "Known: choice, count, either, inner, many, on, pair, share, word."
    )


def test_a_part_without_parameters_says_so():
    with pytest.raises(ConfigError, match="'ready' has no parameter 'p'; it has none"):
        make("channel", {"recipe": "ready", "p": 1}, WHERE)


def test_a_missing_parameter_is_named():
    with pytest.raises(ConfigError) as error:
        make("channel", "rich", WHERE)
    assert str(error.value) == f"{WHERE}: 'rich' needs share. Write {{recipe: rich, share: ...}}."


def test_the_parts_own_word_is_one_line_with_the_place():
    with pytest.raises(ConfigError) as error:
        rich(share=2)
    assert str(error.value) == f"{WHERE}: share is 2.0; wanted 0 to 1"


def test_without_a_place_messages_name_the_part():
    with pytest.raises(ConfigError, match=r"^channel 'rich': share: given 'x', wanted a valid number"):
        make("channel", {"recipe": "rich", "share": "x"})


def test_unknown_names_carry_the_place():
    with pytest.raises(PartError, match=f"^{WHERE}: no feedback channel named 'ritch'; did you mean 'rich'"):
        make("channel", "ritch", WHERE)


@pytest.mark.parametrize("spec", [3, None, {}, {"share": 1}, {"recipe": 3}, ["rich"]])
def test_what_is_no_specification(spec):
    with pytest.raises(ConfigError, match=r"wanted a name or \{recipe: name"):
        make("channel", spec, WHERE)


@pytest.mark.parametrize("kind", ["norm", "plasticity", "pruning"])
@pytest.mark.parametrize("spec", [None, "none", {"recipe": "none"}])
def test_none_is_a_choice(kind, spec):
    assert make(kind, spec) is None


def test_objects_made_in_python_are_handed_on():
    inner = object()
    assert rich(inner=inner).inner is inner


def test_hints_of_a_class_its_parent_and_a_recipe():
    @dataclass(frozen=True)
    class Child(Rich):
        more: "int" = 1

    assert parameters(Child)["share"].is_required
    assert parameters(Child)["more"].type is int
    assert [p.name for p in parameters(Plain).values()] == ["p", "q"]
    assert list(parameters(recipe)) == ["share"]


def test_a_hint_that_names_nothing_is_the_parts_fault():
    class Odd:
        def __init__(self, p: "NotThere") -> None:  # noqa: F821
            pass

    registry.add("channel", "odd", Odd)
    with pytest.raises(PartError, match="Odd: its signature cannot be read: name 'NotThere' is not defined"):
        make("channel", {"recipe": "odd", "p": 1})


# -- updates ---------------------------------------------------------------------------------
def links(*names_and_values):
    return tuple(get("link", name)(*values) for name, *values in names_and_values)


def test_an_update_is_a_list_of_links_first_key_the_kind_its_value_the_first_parameter():
    spec = ["sign", {"decay": 5e-4}, {"momentum": 0.9}, {"rate": 5e-5}]
    sign, *others = make("update", spec)
    assert type(sign) is get("link", "sign")
    assert tuple(others) == links(("decay", 5e-4), ("momentum", 0.9), ("rate", 5e-5))


def test_links_with_several_parameters():
    wanted = links(("adam", 0.8, 0.99), ("rate", 1.0))
    assert make("update", [{"adam": 0.8, "beta2": 0.99}, {"rate": 1}]) == wanted
    assert make("update", [{"adam": {"beta1": 0.8, "beta2": 0.99}}, {"recipe": "rate", "rate": 1}]) == wanted
    assert make("update", [{"adam": None}, {"rate": 1}]) == links(("adam",), ("rate", 1.0))


def test_an_update_recipe_gives_its_links():
    assert make("update", {"recipe": "sgd", "rate": 1, "momentum": 0.5}) == tuple(get("update", "sgd")(1.0, 0.5))
    registry.add("update", "mine", lambda rate: [{"momentum": 0.5}, {"rate": rate}])
    assert make("update", {"recipe": "mine", "rate": 0.1}) == links(("momentum", 0.5), ("rate", 0.1))


@pytest.mark.parametrize(
    ("spec", "given"),
    [
        ([], "no links"),
        ([{"momentum": 0.9}], "Momentum"),
        ([{"rate": 1}, {"momentum": 0.9}], "Rate, Momentum"),
        ([{"rate": 1}, {"rate": 1}], "Rate, Rate"),
    ],
)
def test_an_update_ends_with_its_one_rate(spec, given):
    with pytest.raises(ConfigError) as error:
        make("update", spec, "mine.yaml:3: defaults.update")
    assert str(error.value) == (
        f"mine.yaml:3: defaults.update: an update ends with its one rate; given {given}. "
        "End the list with {rate: ...}."
    )


@pytest.mark.parametrize(
    ("link", "message"),
    [
        ("sgn", r"update\[0\]: no update link named 'sgn'; did you mean 'sign'"),
        ({"momentun": 0.9}, r"update\[0\]: no update link named 'momentun'; did you mean 'momentum'"),
        ({"momentum": "0.9"}, r"update\[0\]\.momentum: given '0\.9', wanted a valid number"),
        ({"momentum": 1.5}, r"update\[0\]: momentum is 1\.5"),
        ({"momentum": 0.9, "decay": 1}, r"update\[0\]: 'momentum' has no parameter 'decay'"),
        ({"sign": 3}, r"update\[0\]: 'sign' has no parameters; given 3\. Write sign\."),
        ({}, r"update\[0\]: given {}, wanted a link"),
    ],
)
def test_a_wrong_link_is_found_by_its_place_in_the_list(link, message):
    with pytest.raises((ConfigError, PartError), match=message):
        make("update", [link, {"rate": 1}])
