"""Find finished items whose files are gone."""

from wnv.ingest.ledger import Ledger
from wnv.ingest.outputs import has_files
from wnv.ingest.tasks import STAGES, StageName

_SETTLED = ("done", "refused")


def requeue_missing(ledger: Ledger) -> dict[StageName, int]:
    """Return items to `pending` that are `done` although a file of theirs is missing or empty.

    A fetched video is needed only until its clips are cut, and a clip only until its scene is packed or rejected;
    after that they may be deleted to save space.

    Returns:
        Number of items per stage, without zeros.
    """
    states = {(stage, item): (state, key) for stage, item, key, state, _ in ledger.states()}
    missing: list[tuple[StageName, str]] = []
    for stage in reversed(STAGES):
        finished = {item for (name, item), (state, _) in states.items() if name == "pack" and state in _SETTLED}
        finished |= {item for (name, item), (state, _) in states.items() if name == "pose" and state == "refused"}
        unfinished = {key for (name, item), (_, key) in states.items() if name == "pose" and item not in finished}
        for row in ledger.rows(stage, state="done"):
            needed = {
                "fetch": states.get(("clip", row.item), ("", ""))[0] not in _SETTLED,
                "clip": row.item in unfinished,
                "pose": row.item not in finished,
                "pack": True,
            }[stage]
            if needed and not has_files(ledger.root, row.result):
                missing.append((stage, row.item))
                states[stage, row.item] = ("pending", row.key)
    ledger.requeue(missing, reason="missing")
    return {stage: n for stage in STAGES if (n := sum(found == stage for found, _ in missing))}
