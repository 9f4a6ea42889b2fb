"""Energy meters: hardware counters where they can be read, a linear model of CPU time where they cannot."""

from __future__ import annotations

import os
import threading
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from time import perf_counter_ns, process_time_ns
from typing import Any, Literal, Protocol

from qrl.ledger.schema import UNATTRIBUTED, Energy

MeterKind = Literal["counter", "sampled", "model"]


class Meter(Protocol):
    """A source of joules for one domain.

    `kind` "counter" or "sampled" (read from hardware, hence measured) or "model"; `domain` one of
    `qrl.ledger.schema.DOMAINS`; `source` names it in records, `u_rel` is its relative standard uncertainty.
    """

    name: str
    kind: MeterKind
    domain: str
    source: str
    u_rel: float

    def read(self) -> tuple[int, float]:
        """(`perf_counter_ns` time, joules since the meter was made)."""

    def available(self) -> tuple[bool, str]:
        """Whether `read` gives a figure, and if not, why."""

    def describe(self) -> dict[str, Any]:
        """The meter's constants as JSON values, for the header of a ledger file."""


class ModelMeter(Meter, Protocol):
    """A meter that computes energy from times, and so prices any phase by itself."""

    def energy(self, wall_s: float, cpu_s: float) -> Energy:
        """Energy of a stretch of `wall_s` and `cpu_s` seconds; linear in both."""


@cache
def power_table() -> dict[str, list[dict[str, Any]]]:
    """The rows of `data/power_models.toml` by section: `cpu`, `memory`, `counter`."""
    text = resources.files("qrl.ledger").joinpath("data/power_models.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def power_row(section: str, row_id: str) -> dict[str, Any]:
    """One row of the power table; raises `ValueError` for an unknown id."""
    rows = {row["id"]: row for row in power_table()[section]}
    if row_id not in rows:
        raise ValueError(f"{section}: {row_id!r} is not in the power table; use one of {', '.join(rows)}")
    return rows[row_id]


class RaplMeter:
    """Running-average-power-limit counters of Linux's powercap tree, one domain.

    Domain "cpu_pkg" sums the packages, "dram" their memory sub-zones. A counter runs from 0 to
    `max_energy_range_uj` and starts again: between two reads `dE = E' - E`, plus the range where `E' < E`, so
    it must be read more often than it wraps (some minutes at full power). "psys" already contains both and
    the `-mmio` tree repeats the packages, so neither is read. The counters see the whole machine: `attribute`
    splits them.

    Source: Linux kernel documentation, Documentation/power/powercap/powercap.rst; own construction.
    """

    kind: MeterKind = "counter"

    def __init__(self, domain: str = "cpu_pkg", root: Path | str = "/sys/class/powercap") -> None:
        if domain not in ("cpu_pkg", "dram"):
            raise ValueError(f"domain: {domain!r} is not a RAPL domain; use 'cpu_pkg' or 'dram'")
        self.name = f"rapl-{domain}"
        self.domain = domain
        self.source = f"rapl:{domain}, split by CPU seconds"
        self.u_rel = float(power_row("counter", "rapl")["u_rel"])
        self._root = Path(root)
        self._lock = threading.Lock()
        self._joules = 0.0
        self._last: dict[Path, int] = {}
        self._range: dict[Path, int] = {}
        self._reason = self._find()

    def _find(self) -> str:
        """Read the zones of this domain for the first time; the reason where that fails, else ''."""
        if not self._root.is_dir():
            return f"no powercap tree at {self._root} (virtual machine, container or not Linux)"
        try:
            for zone in sorted(self._root.glob("intel-rapl:*")):
                name = (zone / "name").read_text().strip()
                if name.startswith("package") if self.domain == "cpu_pkg" else name == "dram":
                    self._range[zone] = int((zone / "max_energy_range_uj").read_text())
                    self._last[zone] = int((zone / "energy_uj").read_text())
        except (OSError, ValueError) as error:
            return _unreadable(error, self._root)
        return "" if self._last else f"no RAPL zone for {self.domain} under {self._root}"

    def available(self) -> tuple[bool, str]:
        """Whether the counters can be read, and if not, why."""
        return not self._reason, self._reason

    def read(self) -> tuple[int, float]:
        """(time, joules of the whole machine since the meter was made); after a failed read `available` says
        why.
        """
        with self._lock:
            for zone, last in self._last.items():
                try:
                    value = int((zone / "energy_uj").read_text())
                except (OSError, ValueError) as error:
                    self._reason = _unreadable(error, zone)
                    break
                passed = value - last if value >= last else value - last + self._range[zone]
                self._joules += passed * 1e-6
                self._last[zone] = value
            return perf_counter_ns(), self._joules

    def describe(self) -> dict[str, Any]:
        """Zones and uncertainty."""
        return {"zones": [zone.name for zone in self._last], "u_rel": self.u_rel}


def _unreadable(error: Exception, path: Path) -> str:
    if isinstance(error, PermissionError):
        return f"{error.filename or path} is readable by root only (Linux 5.10 and later); allow reading it"
    return f"a RAPL counter under {path} cannot be read ({type(error).__name__})"


class CpuTimeModel:
    """CPU energy modelled from CPU seconds, for machines without a readable counter.

    `E = (p_max - p_idle) t_cpu + p_idle n_cpus t_wall`, watts per virtual CPU and seconds: linear, hence
    exactly additive over phases and processes. `n_cpus` is what the run was allotted, not what the machine
    has.

    Source: own construction; constants and their uncertainty in `data/power_models.toml`.
    """

    kind: MeterKind = "model"
    domain = "cpu_pkg"

    def __init__(self, n_cpus: float = 1.0, row: str = "vcpu-default") -> None:
        if isinstance(n_cpus, bool) or not 0 < n_cpus < float("inf"):
            raise ValueError(f"n_cpus: {n_cpus!r} is not a positive number; use the number of CPUs allotted")
        constants = power_row("cpu", row)
        self.row = row
        self.n_cpus = float(n_cpus)
        self.name = "cpu-time-model"
        self.source = f"cpu-time-model:{row}"
        self.p_idle, self.p_max = float(constants["p_idle"]), float(constants["p_max"])
        self.u_rel = float(constants["u_rel"])
        self._start = (perf_counter_ns(), process_time_ns())

    def available(self) -> tuple[bool, str]:
        """Always."""
        return True, ""

    def energy(self, wall_s: float, cpu_s: float) -> Energy:
        """Modelled energy of a stretch, gross, its idle part given."""
        idle = self.p_idle * self.n_cpus * wall_s
        joules = (self.p_max - self.p_idle) * cpu_s + idle
        return Energy(self.domain, joules, self.u_rel * joules, "modelled", self.source, "gross", idle)

    def read(self) -> tuple[int, float]:
        """(time, modelled joules of this process since the model was made)."""
        wall, cpu = perf_counter_ns(), process_time_ns()
        return wall, self.energy((wall - self._start[0]) * 1e-9, (cpu - self._start[1]) * 1e-9).joules

    def describe(self) -> dict[str, Any]:
        """The row of the power table and the CPUs allotted."""
        return {"row": self.row, "n_cpus": self.n_cpus, "p_idle_w": self.p_idle, "p_max_w": self.p_max} | {
            "u_rel": self.u_rel
        }


class MemoryModel:
    """Memory energy modelled as `E = p m t_wall`, p in W/GB and m the gigabytes (1e9 bytes) allotted to the
    run.

    Source: own construction; constant in `data/power_models.toml`.
    """

    kind: MeterKind = "model"
    domain = "dram"

    def __init__(self, gigabytes: float, row: str = "dram-default") -> None:
        if isinstance(gigabytes, bool) or not 0 < gigabytes < float("inf"):
            raise ValueError(
                f"gigabytes: {gigabytes!r} is not a positive number; use the memory allotted in GB"
            )
        constants = power_row("memory", row)
        self.row = row
        self.gigabytes = float(gigabytes)
        self.name = "memory-model"
        self.source = f"memory-model:{row}"
        self.p_per_gb, self.u_rel = float(constants["p_per_gb"]), float(constants["u_rel"])
        self._start = perf_counter_ns()

    def available(self) -> tuple[bool, str]:
        """Always."""
        return True, ""

    def energy(self, wall_s: float, cpu_s: float) -> Energy:
        """Modelled energy of a stretch; all of it is there whether the CPU works or not."""
        joules = self.p_per_gb * self.gigabytes * wall_s
        return Energy(self.domain, joules, self.u_rel * joules, "modelled", self.source, "gross", joules)

    def read(self) -> tuple[int, float]:
        """(time, modelled joules since the model was made)."""
        now = perf_counter_ns()
        return now, self.energy((now - self._start) * 1e-9, 0.0).joules

    def describe(self) -> dict[str, Any]:
        """The row of the power table and the gigabytes allotted."""
        return {
            "row": self.row,
            "gigabytes": self.gigabytes,
            "p_per_gb_w": self.p_per_gb,
            "u_rel": self.u_rel,
        }


def default_meters(n_cpus: float) -> tuple[Meter, ...]:
    """RAPL for packages and memory, then the CPU-time model for machines without RAPL."""
    return (RaplMeter("cpu_pkg"), RaplMeter("dram"), CpuTimeModel(n_cpus))


def system_cpu_seconds(path: Path | str = "/proc/stat") -> float | None:
    """CPU seconds that all processes have used since boot, None where the system does not say."""
    try:
        first = Path(path).read_text().split("\n", 1)[0].split()
        user, nice, system, _idle, _iowait, irq, softirq = (int(value) for value in first[1:8])
        return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, AttributeError):
        return None


def attribute(joules: float, cpu_s: Mapping[str, float], all_cpu_s: float | None) -> dict[str, float]:
    """Split a machine-wide counter's joules over phases by CPU seconds.

    `E_p = E c_p / max(c_all, sum_p c_p)`, with c_all the CPU seconds of all processes in the same window
    (None: unknown, and the phases share everything). The rest is under "unattributed", and the values sum to
    `joules`.

    Source: own construction (the idle power is shared with the rest, since no idle baseline is measured).
    """
    own = sum(cpu_s.values())
    whole = max(own, all_cpu_s or 0.0)
    shares = {name: joules * value / whole if whole > 0 else 0.0 for name, value in cpu_s.items()}
    shares[UNATTRIBUTED] = max(0.0, joules - sum(shares.values()))
    return shares


class Sampler:
    """A daemon thread that reads counters once a second, so that none wraps unseen.

    It exists only where there is a counter: `start` does nothing when `meters` is empty. `hz` is its rate,
    None then.
    """

    def __init__(self, meters: Sequence[Meter], period_s: float = 1.0) -> None:
        self._meters = tuple(meters)
        self._period_s = period_s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.hz = 1.0 / period_s if self._meters else None

    def start(self) -> None:
        """Begin to sample."""
        if self._meters and self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, name="qrl-ledger-sampler", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End, and wait for the thread."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while not self._stop.wait(self._period_s):
            for meter in self._meters:
                meter.read()
