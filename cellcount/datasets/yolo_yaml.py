"""The parts of YOLO's data.yaml that matter here: class names, and where the splits lie.

Only what these files use of YAML is understood: plain keys of the top level with a text, a list or
a mapping of numbers.
"""

from __future__ import annotations

import re
from pathlib import Path

from cellcount.datasets.annotated import clean_label
from cellcount.errors import AnnotationError

_FLOW_ITEM = re.compile(r"""\s*((?:\d+\s*:\s*)?(?:"(?:\\.|[^"\\])*"|'(?:''|[^'])*'|[^,\]}]*))\s*""")
_ESCAPE = re.compile(r"\\(.)")
# Folders of every data set: alone they say nothing about a split.
_ROLES = {"images", "image", "data", "labels"}
_SPLIT_KEYS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def parse_yaml_names(text: str) -> tuple[str, ...]:
    """The class names of a data.yaml: ``names:`` as list or mapping, in one line or several.

    Raises AnnotationError where indices have gaps.
    """
    is_list, items = _value_of("names", text)
    return tuple(_unquoted(item) for item in items) if is_list else _in_index_order(items)


def parse_yaml_splits(text: str) -> dict[str, tuple[str, ...]]:
    """Split → the folders and list files that ``train:``, ``val:`` and ``test:`` name."""
    found = {}
    for key, split in _SPLIT_KEYS.items():
        places = tuple(name for item in _texts_of(key, text) if (name := _unquoted(item)))
        if places and split not in found:
            found[split] = places
    return found


def parse_yaml_path(text: str) -> str:
    """The folder that ``path:`` names, which the splits lie below; "" for none."""
    return next((_unquoted(item) for item in _texts_of("path", text)), "")


def has_keypoints(text: str) -> bool:
    """Return whether labels hold points behind each box (``kpt_shape:``)."""
    return bool(re.search(r"^kpt_shape\s*:", text, re.MULTILINE))


def split_places(root: Path, text: str) -> dict[str, list[Path]]:
    """Split → folders and list files of a data.yaml that exist.

    A place is looked for below ``path:``, then below the file's own folder, also without its
    leading ``../``, which some programs write one too many of, and without the folders above that
    another machine had.
    """
    base = Path(parse_yaml_path(text).replace("\\", "/"))
    return {
        split: [place for name in names if (place := _existing(root, base, name)) is not None]
        for split, names in parse_yaml_splits(text).items()
    }


def _existing(root: Path, base: Path, name: str) -> Path | None:
    stated = Path(name.replace("\\", "/"))
    parts = [part for part in stated.parts if part not in ("..", ".", "/", stated.anchor)]
    # From the longest end of the stated path to the shortest.
    ends = [
        Path(*parts[index:])
        for index in range(len(parts))
        if index == 0 or not _ROLES.issuperset(part.lower() for part in parts[index:])
    ]
    for place in (root / base / stated, root / stated, *(root / end for end in ends)):
        try:
            if place.exists() and place.resolve().is_relative_to(root.resolve()):
                return place
        except OSError:  # an overlong name
            continue
    return None


def _texts_of(key: str, text: str) -> list[str]:
    """The one text of a key, or those of its list."""
    lines = [_without_comment(line) for line in text.splitlines()]
    start = next((i for i, line in enumerate(lines) if re.match(rf"{key}\s*:", line)), None)
    if start is None:
        return []
    inline = lines[start].split(":", 1)[1].strip()
    if inline and not inline.startswith("["):
        return [inline] if inline not in ("null", "~") else []
    return _value_of(key, text)[1]


def _value_of(key: str, text: str) -> tuple[bool, list[str]]:
    """Return whether a key holds a list, and its items or those of its mapping."""
    lines = [_without_comment(line) for line in text.splitlines()]
    start = next((i for i, line in enumerate(lines) if re.match(rf"{key}\s*:", line)), None)
    if start is None:
        return True, []
    inline = lines[start].split(":", 1)[1].strip()
    if inline:
        flow = " ".join([inline, *(line.strip() for line in lines[start + 1 :])])
        return inline.startswith("["), _flow_items(flow)
    block = _indented(lines[start + 1 :])
    is_list = bool(block) and block[0].startswith("-")
    return is_list, [line.removeprefix("-").strip() for line in block]


def _indented(lines: list[str]) -> list[str]:
    """The stripped lines up to the next key of the top level; a list may stand unindented."""
    block = []
    for line in filter(None, lines):
        if not line.startswith((" ", "\t", "-")):
            break
        block.append(line.strip())
    return block


def _in_index_order(items: list[str]) -> tuple[str, ...]:
    names: dict[int, str] = {}
    for item in items:
        key, _, name = item.partition(":")
        if not _unquoted(key).isdigit():
            raise AnnotationError(f"names: in the YAML file has the key {key!r}, expected 0, 1, …")
        names[int(_unquoted(key))] = _unquoted(name)
    if sorted(names) != list(range(len(names))):
        raise AnnotationError(
            f"names: in the YAML file has the indices {sorted(names)}, expected 0, 1, … no gaps"
        )
    return tuple(names[index] for index in range(len(names)))


def _flow_items(flow: str) -> list[str]:
    """The items of ``[a, "b, c"]`` or ``{0: a, 1: b}``, split at commas outside quotes."""
    items, position = [], 1
    while match := _FLOW_ITEM.match(flow, position):
        items.append(match[1].strip())
        position = match.end() + 1
        if flow[match.end() : position] != ",":
            break
    return [item for item in items if item]


def _without_comment(line: str) -> str:
    quote = ""
    for index, char in enumerate(line):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == "#" and (index == 0 or line[index - 1].isspace()):
            return line[:index].rstrip()
    return line.rstrip()


def _unquoted(text: str) -> str:
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        inner = text[1:-1]
        text = inner.replace("''", "'") if text[0] == "'" else _ESCAPE.sub(r"\1", inner)
    return clean_label(text)
