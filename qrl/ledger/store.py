"""The ledger file: append-only JSON lines, one write a record, and a header each time a process opens it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qrl.ledger.schema import SCHEMA, Record


@dataclass(frozen=True, slots=True)
class LedgerFile:
    """What a ledger file says: its headers in order (one for each process that wrote) and its records.

    `torn` is True when the last line was incomplete (a process died while writing) and has been left out.
    """

    headers: tuple[dict[str, Any], ...]
    records: tuple[Record, ...]
    torn: bool


def read_ledger(path: Path | str) -> LedgerFile:
    """Read a ledger file, without an incomplete last line; any other bad line raises `ValueError`."""
    whole, _, rest = Path(path).read_bytes().rpartition(b"\n")
    headers: list[dict[str, Any]] = []
    records: list[Record] = []
    for number, line in enumerate(whole.split(b"\n") if whole else [], 1):
        try:
            data = json.loads(line)
            if isinstance(data, dict) and "header" in data:
                headers.append(data["header"])
            else:
                records.append(Record.from_dict(data))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}:{number}: {error}") from None
    return LedgerFile(tuple(headers), tuple(records), bool(rest))


class LedgerWriter:
    """Appends to a ledger file.

    Opening repairs a torn last line by cutting it off and reads the records that are there (`existing`).
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            self.existing = self._repair()
        except BaseException:
            os.close(self._descriptor)
            raise

    def _repair(self) -> LedgerFile:
        found = read_ledger(self.path)
        if found.torn:
            data = self.path.read_bytes()
            os.ftruncate(self._descriptor, data.rfind(b"\n") + 1)
        return found

    def header(self, header: Mapping[str, Any]) -> None:
        """Append a header line."""
        self._write({"schema": SCHEMA, "header": header})

    def records(self, records: Iterable[Record]) -> None:
        """Append records, one write each, then make sure that they are on the disk."""
        for record in records:
            self._write(record.to_dict())
        os.fsync(self._descriptor)

    def _write(self, data: Mapping[str, Any]) -> None:
        line = json.dumps(data, allow_nan=False, separators=(",", ":"), ensure_ascii=False) + "\n"
        os.write(self._descriptor, line.encode())

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
