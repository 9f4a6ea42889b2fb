"""What can go wrong on order.

HTTP faults spoil the reply to one request, at a place that the order names; the others belong to a submission and stay
with its job. ``-before`` is before the service did what it was asked, ``-after`` when it had.
"""

from typing import NamedTuple

PLACES = (
    "submit",
    "find",
    "look",
    "results",
    "metrics",
    "cancel",
    "usage",
    "status",
    "backends",
    "sessions",
)
"""Requests of the service proper, by what they are for; ``any`` is the next of whatever kind."""


class Spoiled(NamedTuple):
    """What becomes of a reply: a status, ``drop``, ``late`` or ``malformed``; after the service acted, or instead."""

    what: int | str
    after: bool


HTTP = {
    "502-before": Spoiled(502, False),
    "503-before": Spoiled(503, False),
    "502-after": Spoiled(502, True),
    "503-after": Spoiled(503, True),
    "dropped-before": Spoiled("drop", False),
    "dropped": Spoiled("drop", True),
    "late": Spoiled("late", True),  # seconds: of the delay
    "429": Spoiled(429, False),  # retry_after: seconds, no such header without
    "401": Spoiled(401, False),
    "malformed": Spoiled("malformed", True),
    "malformed-before": Spoiled("malformed", False),
}
FATES = {
    "unknown-status",  # looks: how often it is seen, None for ever; status: the word
    "max-time",  # seconds: that it is charged, at most its maximum time
    "empty",
    "malformed-result",
    "failed",  # seconds: that it is charged; code, reason
    "no-usage",
    "late-usage",  # looks: at the metrics before they are final
}
KINDS = (*HTTP, *sorted(FATES), "duplicate", "none")
"""``duplicate``: a submission is accepted ``copies`` times and the last one's id is told; ``none``: nothing happens."""


def inject(store, kind, times=1, on="submit", **options):
    """Order a fault for the next requests.

    Args:
        store: the service's state.
        kind: one of ``KINDS``.
        times: how many requests.
        on: one of ``PLACES``, or ``any``.
        options: see the kinds.

    Raises:
        ValueError: an unknown kind or place, or one that has nothing to do with the other.
    """
    if kind not in KINDS:
        raise ValueError(f"kind: {kind!r} is unknown; use one of {', '.join(KINDS)}")
    if on not in (*PLACES, "any"):
        raise ValueError(f"on: {on!r} is unknown; use one of {', '.join(PLACES)} or any")
    if on != "submit" and (kind in FATES or kind == "duplicate"):
        raise ValueError(f"on: {on!r}, but {kind} belongs to a submission; leave it out")
    store.inject(kind, times, on, options)


def schedule(store, kinds, count, share=1.0, seed=0):
    """Order what the next ``count`` submissions meet: a share of them one of ``kinds``, drawn by ``seed``.

    Every request to submit counts, repetitions of the client included.

    Raises:
        ValueError: an unknown kind.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"kinds: {kind!r} is unknown; use one of {', '.join(KINDS)}")
    store.schedule(kinds, count, share, seed)
