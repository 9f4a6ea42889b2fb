"""Time, work and energy of a run, for any training code: `with Ledger(run_id, seed, agent) as ledger:`."""

from qrl.ledger.context import phase
from qrl.ledger.ledger import Ledger, current
from qrl.ledger.pricing import (
    Profile,
    Total,
    check_closure,
    price,
    ratio,
    reprice,
    select,
    summarise,
    total,
)
from qrl.ledger.schema import (
    PHASES,
    SCHEMA,
    TRAINING_PHASES,
    UNATTRIBUTED,
    Energy,
    Quantum,
    Record,
    Unavailable,
)
from qrl.ledger.store import LedgerFile, read_ledger

__all__ = [
    "PHASES",
    "SCHEMA",
    "TRAINING_PHASES",
    "UNATTRIBUTED",
    "Energy",
    "Ledger",
    "LedgerFile",
    "Profile",
    "Quantum",
    "Record",
    "Total",
    "Unavailable",
    "check_closure",
    "current",
    "phase",
    "price",
    "ratio",
    "read_ledger",
    "reprice",
    "select",
    "summarise",
    "total",
]
