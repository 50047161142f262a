"""Codes in place of names: images, slides and specimens by an HMAC under a key kept apart.

Every part of a path has its own code, so images of a slide stay together. The code of a part
depends on the key and the part alone: the same in every run, shard and order. The key file holds
the key and, for whoever may look, which code stands for what.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from cellcount.core.records import ImageRef, ImageResult, path_order
from cellcount.errors import UsageError
from cellcount.files.atomic import atomic_write
from cellcount.images.copies import NAMELESS_CAUTION
from cellcount.images.file_types import IMAGE_SUFFIXES
from cellcount.images.find import Plan
from cellcount.outputs.run_record import NotDone

_SCHEMA = "cellcount-pseudonyms-1"
_CODE_CHARS = 10  # 50 bits: among a million names two are the same once in 2,000 times
_PAGE = re.compile(r"(.*?)((?:#page=\d{1,9})?)", re.DOTALL)


class Pseudonyms:
    """The codes under one key.

    Args:
        key: secret bytes.
        names: code → name, as far as it is known.
    """

    def __init__(self, key: bytes, names: dict[str, str] | None = None) -> None:
        self._key = key
        self.names = dict(names or {})

    @classmethod
    def open(cls, path: Path) -> Pseudonyms:
        """The codes of a key file, or new ones where there is no such file yet.

        Raises:
            UsageError: the file is something else, and must not be replaced.
        """
        try:
            document = json.loads(path.read_text("utf-8"))
            if document["schema"] != _SCHEMA:
                raise ValueError(f"schema is {document['schema']!r}")
            return cls(bytes.fromhex(document["key"]), dict(document["names"]))
        except FileNotFoundError:
            return cls(secrets.token_bytes(32))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{path} is no key file of cellcount ({error}); name a new file, or the one of "
                "an earlier --pseudonymize"
            ) from error

    def save(self, path: Path) -> None:
        """Write the key file, readable by its owner alone.

        Raises:
            OutputError: it cannot be written; an older one is untouched.
        """
        document = {
            "schema": _SCHEMA,
            "about": "Keep this file apart from the outputs: it turns their codes into names.",
            "key": self._key.hex(),
            "names": dict(sorted(self.names.items())),
        }
        with atomic_write(path) as file:
            if hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), 0o600)
            text = json.dumps(document, ensure_ascii=True, indent=1)
            file.write(text.encode() + b"\n")

    def image(self, image: str) -> str:
        """The code of an image's identity: a code per part, its suffix and page kept."""
        match = _PAGE.fullmatch(image)
        path, page = (match[1], match[2]) if match else (image, "")
        suffix = PurePosixPath(path).suffix.lower()
        return self.path(path) + (suffix if suffix in IMAGE_SUFFIXES else "") + page

    def path(self, text: str) -> str:
        """The code of a path or name: a code per part; parts such as ``..`` stay."""
        return "/".join(self._part(part) for part in text.split("/"))

    def text(self, text: str) -> str:
        """The code of a text that is no path, as a whole."""
        return self._part(text)

    def ref(self, ref: ImageRef) -> ImageRef:
        """A reference under its codes; its path on the disk stays, for those that read it."""
        return replace(
            ref,
            image=self.image(ref.image),
            slide=self.path(ref.slide),
            specimen=self.path(ref.specimen),
            accession=self.text(ref.accession),
            caution=NAMELESS_CAUTION if ref.caution else "",
        )

    def result(self, result: ImageResult) -> ImageResult:
        """A result under its codes, names in its reason replaced too."""
        ref = self.ref(result.ref)
        reason = result.reason
        if reason:
            reason = reason.replace(result.ref.caution, ref.caution) if ref.caution else reason
            names = (str(result.ref.path), result.ref.image, result.ref.path.name)
            for name in sorted(names, key=len, reverse=True):
                reason = reason.replace(name, ref.image)
        return replace(result, ref=ref, reason=reason)

    def learn(self, refs: Iterable[ImageRef]) -> None:
        """Enter the names of a run, so that the key file can tell them."""
        for ref in refs:
            self.ref(ref)

    def _part(self, part: str) -> str:
        if part in ("", ".", ".."):
            return part
        digest = hmac.new(self._key, part.encode("utf-8", "surrogatepass"), hashlib.sha256)
        code = base64.b32encode(digest.digest()).decode().lower()[:_CODE_CHARS]
        known = self.names.setdefault(code, part)
        if known != part:
            raise UsageError(
                f"{known!r} and {part!r} have the same code by chance; rename one of them"
            )
        return code


class OutputNames:
    """Names of images, slides and specimens in the outputs: their own, or codes.

    Args:
        key_file: of the codes, None for the names themselves.
        files: every single file that the run writes.
        folders: every folder in which it writes a file per image.

    Raises:
        UsageError: the key file lies among the outputs, or is something else.
    """

    def __init__(
        self, key_file: Path | None, files: Iterable[Path] = (), folders: Iterable[Path] = ()
    ) -> None:
        self._key_file = key_file
        self._codes: Pseudonyms | None = None
        if key_file is not None:
            check_key_place(key_file, files, folders)
            self._codes = Pseudonyms.open(key_file)

    def keep(self, refs: Iterable[ImageRef] = (), *texts: str) -> None:
        """Write the key file, before anything carries a code.

        Args:
            refs: images whose names get codes.
            texts: others that get one, as `text` gives it.

        Raises:
            OutputError: it cannot be written.
        """
        if self._codes is None or self._key_file is None:
            return
        known = len(self._codes.names)
        self._codes.learn(refs)
        for text in texts:
            self._codes.text(text)
        if len(self._codes.names) > known or not self._key_file.is_file():
            self._codes.save(self._key_file)

    def text(self, text: str) -> str:
        """Return a text, such as the name of another file, or its code where names are replaced."""
        return text if self._codes is None else self._codes.text(text)

    def ordered(self, refs: Sequence[ImageRef]) -> Sequence[ImageRef]:
        """Sort the images for the tables: by name, or by code, so that no order betrays a name."""
        codes = self._codes
        if codes is None:
            return sorted(refs, key=lambda ref: path_order(ref.image))
        return sorted(refs, key=lambda ref: path_order(codes.image(ref.image)))

    def image(self, image: str) -> str:
        """Return the name of an image."""
        return image if self._codes is None else self._codes.image(image)

    def path(self, text: str) -> str:
        """Name of a slide or specimen in the outputs."""
        return text if self._codes is None else self._codes.path(text)

    def result(self, result: ImageResult) -> ImageResult:
        """Replace the names in a result by those of the outputs: itself, or codes."""
        return result if self._codes is None else self._codes.result(result)

    def inputs(self, inputs: Sequence[str]) -> Sequence[str]:
        """Return the INPUT arguments for run.json, or their codes where names are replaced."""
        return inputs if self._codes is None else [self._codes.image(text) for text in inputs]

    def settings(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings for run.json; patterns that may name people become codes."""
        pattern = settings.get("slide_from")
        return {**settings, "slide_from": None if pattern is None else self.text(pattern)}

    def passed_over(self, plan: Plan) -> list[NotDone]:
        """Return the files in the inputs that got no row."""
        name = str if self._codes is None else self._codes.image
        return [NotDone(name(str(p.path)), "passed over", p.reason) for p in plan.passed_over]


def check_key_place(key: Path, files: Iterable[Path], folders: Iterable[Path]) -> None:
    """Refuse a key file among the outputs that it unlocks.

    Args:
        key: the key file.
        files: outputs that are files.
        folders: outputs that are folders.

    Raises:
        UsageError: it would lie in the folder of an output.
    """
    place = Path(os.path.realpath(key)).parent
    beside = [path for path in files if Path(os.path.realpath(path)).parent == place]
    around = [path for path in folders if place.is_relative_to(os.path.realpath(path))]
    if beside or around:
        raise UsageError(
            f"the key file {key} would lie with the output {(beside or around)[0]}, which it "
            "turns back into names; name a file in another folder, for example "
            f"--pseudonymize {Path('..', 'keys', key.name)}"
        )
