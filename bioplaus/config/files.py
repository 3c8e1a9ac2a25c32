"""Rule and network files: those shipped with bioplaus, and those the user names."""

from __future__ import annotations

from pathlib import Path

from bioplaus.config.text import home
from bioplaus.errors import ConfigError, nearest

_PACKAGE = Path(__file__).resolve().parents[1]
_FOLDERS = {"rule": "rules", "network": "networks"}


def folder(kind: str) -> Path:
    """Where the shipped files of a kind lie: inside the installed package, or beside it in a checkout."""
    inside = _PACKAGE / _FOLDERS[kind]
    return inside if inside.is_dir() else _PACKAGE.parent / _FOLDERS[kind]


def shipped(kind: str) -> list[str]:
    """Names of the rules or networks that come with bioplaus.

    Parameters
    ----------
    kind : str      ``rule`` or ``network``
    """
    return sorted(path.stem for path in folder(kind).glob("*.yaml"))


def find(kind: str, name: str | Path, *, beside: Path | None = None) -> Path:
    """The file meant by a name or a path: an existing file first, then a shipped one.

    ``usf_bn_bm``, ``usf_bn_bm.yaml`` and ``rules/usf_bn_bm.yaml`` all mean the shipped rule where no such
    file lies in the current folder, or in ``beside`` (the folder of the file that names it).

    Raises
    ------
    ConfigError     there is neither
    """
    text = str(name)
    given = home(text)
    is_name = given.suffix not in (".yaml", ".yml") and len(given.parts) == 1
    shipped_file = folder(kind) / f"{given.stem if not is_name else text}.yaml"
    may_be_shipped = is_name or text in (shipped_file.name, f"{_FOLDERS[kind]}/{shipped_file.name}")
    if not is_name:
        for place in (beside, Path.cwd()):
            if place is not None and _exists(place / given):
                return place / given
    if may_be_shipped and _exists(shipped_file):
        return shipped_file
    if is_name:
        raise ConfigError(f"no {kind} named {text!r}{nearest(text, shipped(kind))} A file needs its path and .yaml.")
    raise ConfigError(f"{text}: no such {kind} file{nearest(given.stem, shipped(kind))}")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name no file system takes
        return False
