"""Record of a shard in its journal, for the merge: the images of all shards, and how it ran."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cellcount.core.records import ImageRef
from cellcount.errors import JournalError
from cellcount.images.find import Plan
from cellcount.store.journal import Journal

_NAME = "shard"


@dataclass(frozen=True, slots=True)
class ShardFacts:
    """Facts of a shard that a merge needs besides its results.

    Attributes:
        plan_sha256: of the identities of all images, those of other shards too.
        images: how many these are.
        inputs: the INPUT arguments.
        passed_over: path and reason of what got no row.
        versions: program or library to version.
        record: what run.json tells of the models and settings, by its names.
    """

    plan_sha256: str
    images: int
    inputs: Sequence[str]
    passed_over: Sequence[Sequence[str]]
    versions: Mapping[str, str]
    record: Mapping[str, Any]

    @classmethod
    def of(
        cls, plan: Plan, inputs: Sequence[str], versions: Mapping[str, str], record: dict[str, Any]
    ) -> ShardFacts:
        """The facts of a shard of that plan."""
        passed_over = [[str(p.path), p.reason] for p in plan.passed_over]
        return cls(
            plan_digest(plan.refs), len(plan.refs), list(inputs), passed_over, versions, record
        )

    def keep(self, journal: Journal) -> None:
        """Store the facts in the journal, in place of those of the run before."""
        journal.set_value(_NAME, asdict(self))

    @classmethod
    def read(cls, journal: Journal) -> ShardFacts:
        """The facts of a shard's journal.

        Raises:
            JournalError: it is of no shard.
        """
        stored = journal.get_value(_NAME)
        if not journal.shard or not isinstance(stored, dict):
            raise JournalError(
                f"{journal.path} is of no shard but of a run of all images; merge takes the "
                "outputs of analyze --shard I/N"
            )
        return cls(**stored)


def plan_digest(refs: Sequence[ImageRef]) -> str:
    """SHA-256 of everything that a plan states of its images except where their files are."""
    digest = hashlib.sha256()
    for ref in refs:
        facts = ref.facts()
        del facts["path"]
        digest.update(json.dumps(facts, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()
