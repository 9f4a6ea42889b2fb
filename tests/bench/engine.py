"""What we hold our own backend to, apart from its peers: overhead, precision, instruction sets, memory, exactness."""

from __future__ import annotations

import numpy as np
from accuracy import CELLS, Accuracy
from contenders import BACKPROP, EMPTY, Contender, own, through_autograd
from kernel import Kernel, flops
from problem import Cell
from race import Race, Timings
from report import Goal, Section, short, table
from worker import Limit, Timer, Worker

PER_SAMPLE = (Cell(4, 5, 16), Cell(4, 5, 64), Cell(4, 5, 256), Cell(8, 5, 64), Cell(12, 5, 16))
PEAK = (Cell(4, 5, 256), Cell(4, 5, 1024), Cell(8, 5, 64), Cell(8, 5, 1024), Cell(12, 5, 64), Cell(16, 3, 64))
VARIANTS = (Cell(4, 5, 16), Cell(4, 5, 256), Cell(8, 5, 1), Cell(8, 5, 64), Cell(12, 5, 16), Cell(16, 3, 1))
REGISTERS, CHOICE_BATCHES, CHOICE_LAYERS = range(2, 17), (1, 4, 16, 64), 3
MEMORY = {Cell(16, 3, 16): 4.0, Cell(20, 3, 1): 40.0}
STRAIGHT = "Forward and gradients straight through the backend, without a layer and autograd, milliseconds:"
SCALING = (4, 8, 12, 16, 18, 20)


def overhead(race: Race, engine: str, quick: bool) -> Section:
    """A learn step beside an empty autograd function, and parameters of each sample beside shared ones."""
    ours = own(engine)[0]
    cell = Cell(4, 5, 16)
    recorded = through_autograd(engine)
    row = race.run(cell, "learn", [ours, recorded, EMPTY])
    empty = [
        Goal(
            f"learn {how} over an empty autograd function",
            "<=",
            1.35,
            "x",
            {str(cell): row[c.name].over(row[EMPTY.name])},
        )
        for how, c in (("as agents do", ours), ("through autograd", recorded))
    ]
    shared, apart = (
        Contender(f"{engine}, {name} parameters", "requests", False, {"backend": engine, "per_sample": each})
        for name, each in (("shared", False), ("per-sample", True))
    )
    found, lines, records = {}, [], {}
    for cell in PER_SAMPLE[:1] if quick else PER_SAMPLE:
        pair = race.run(cell, "learn", [shared, apart])
        found[str(cell)] = pair[apart.name].over(pair[shared.name])
        lines.append([str(cell), *(_ms(pair, c) for c in (shared, apart)), f"{short(found[str(cell)])}x"])
        records[str(cell)] = _records(pair)
    per_sample = Goal("per-sample over shared parameters, learn", "<=", 1.6, "x", found)
    text = "\n\n".join(
        [
            f"Learn at {Cell(4, 5, 16)}: {_ms(row, ours)} ms without a graph, {_ms(row, recorded)} ms through "
            f"autograd; an autograd function that computes nothing, with the same inputs and outputs: "
            f"{_ms(row, EMPTY)} ms.",
            STRAIGHT,
            table(["n/L/B", "shared parameters", "one vector a sample", "ratio"], lines),
        ]
    )
    return Section("Overhead", text, {"empty": _records(row), "parameters": records}, [*empty, per_sample])


def peak(race: Race, engine: str, quick: bool) -> Section:
    """The share of the core's peak of multiply-adds that forward and backward in one kernel call reach."""
    worker = Worker(Kernel)
    found, lines, records = {}, [], {}
    for cell in PEAK[1:2] if quick else PEAK:
        worker.call("prepare", cell)
        turns = [(worker.call("peak"), worker.call("block")) for _ in range(3 if quick else 15)]
        most, seconds = np.median(turns, axis=0)
        rate = flops(cell) / seconds
        found[cell] = rate / most
        lines.append(
            [
                str(cell),
                short(1e3 * seconds),
                short(rate / 1e9),
                short(most / 1e9),
                f"{100 * found[cell]:.0f} %",
            ]
        )
        records[str(cell)] = {"ms": 1e3 * seconds, "flops": rate, "peak": most, "share": found[cell]}
    worker.close()
    goals = [
        Goal(what, ">=", bound, "", {str(cell): share for cell, share in found.items() if holds(cell)})
        for what, bound, holds in (
            ("share of the FMA peak, n >= 8, batch >= 64", 0.65, lambda c: c.qubits >= 8 and c.batch >= 64),
            ("share of the FMA peak, n = 4, batch >= 256", 0.50, lambda c: c.qubits == 4 and c.batch >= 256),
        )
    ]
    head = ["n/L/B", "ms", "GFLOP/s", "peak GFLOP/s", "share"]
    text = (
        "Forward and backward in one call of the kernel, float32, operations counted by formula; the peak is that of "
        "independent multiply-adds in registers, of the fastest instruction set, measured in turns with the kernel."
    )
    return Section("Share of peak", text + "\n\n" + table(head, lines), records, goals)


def variants(race: Race, engine: str, quick: bool) -> Section:
    """Instruction sets and precisions of both engines of the native backend."""
    from circuits.engine.library import load

    library = load()
    assert library is not None
    sets = [name for name in library.supported if name in ("avx2", "avx512")] or [library.best]
    ratios: dict[str, dict[str, float]] = {"sets": {}, "precisions": {}}
    lines, records = [], {}
    for cell in VARIANTS[:2] if quick else VARIANTS:
        for kind in ("lane", "amplitude"):
            if kind == "lane" and cell.qubits == 16:
                continue  # nobody would choose it there; its working memory is that of a full vector of samples
            chosen = {
                (name, double): Contender(
                    f"{kind} {name} {'f64' if double else 'f32'}",
                    "requests",
                    double,
                    {"backend": engine, "engine": kind, "instruction_set": name},
                )
                for name in sets
                for double in (False, True)
            }
            row = race.run(cell, "learn", chosen.values())
            where = f"{cell} {kind}"
            records[where] = _records(row)
            lines.append([where, *(_ms(row, contender) for contender in chosen.values())])
            timed = {key: row[contender.name] for key, contender in chosen.items()}
            if any(timing.failure for timing in timed.values()):
                continue  # an engine that does not run at this size
            for name in sets:
                ratios["precisions"][f"{where} {name}"] = timed[name, True].over(timed[name, False])
            if len(sets) == 2:
                for double, label in ((False, "f32"), (True, "f64")):
                    ratio = timed["avx2", double].over(timed["avx512", double])
                    ratios["sets"][f"{where} {label}"] = ratio
    head = ["n/L/B, engine"] + [f"{name} {label}" for name in sets for label in ("f32", "f64")]
    goals = [
        Goal("AVX2 over AVX-512, learn", "<=", 2.2, "x", ratios["sets"]),
        Goal("float64 over float32, learn", "<=", 2.3, "x", ratios["precisions"]),
    ]
    text = f"{STRAIGHT}\n\n{table(head, lines)}"
    return Section("Instruction sets and precisions", text, records, goals)


def choice(race: Race, engine: str, quick: bool) -> Section:
    """The engine that is chosen by itself beside both that can be asked for."""
    kinds = {
        kind: Contender(f"{engine} {kind}", "requests", False, {"backend": engine, "engine": kind})
        for kind in ("auto", "lane", "amplitude")
    }
    found, lines, records = {}, [], {}
    for n in (4, 8) if quick else REGISTERS:
        for batch in (1, 16) if quick else CHOICE_BATCHES:
            cell = Cell(n, CHOICE_LAYERS, batch)
            row = race.run(cell, "learn", kinds.values())
            auto = row[kinds["auto"].name]
            asked = [row[kinds[kind].name] for kind in ("lane", "amplitude")]
            better = min((t for t in asked if t.failure is None), key=lambda timing: timing.median)
            found[str(cell)] = auto.over(better)
            lines.append([str(cell), *(_ms(row, c) for c in kinds.values()), f"{short(found[str(cell)])}x"])
            records[str(cell)] = _records(row)
    goal = Goal("chosen engine over the better one, learn", "<=", 1.1, "x", found)
    head = ["n/L/B", "chosen by itself", "lane", "amplitude", "chosen over better"]
    text = f"{STRAIGHT}\n\n{table(head, lines)}"
    return Section("Choice between the two engines", text, records, [goal])


def scaling(race: Race, engine: str, quick: bool) -> Section:
    """Time and memory of one sample up to 20 qubits, and the memory of a learn step."""
    everyone = [own(name)[0] for name in dict.fromkeys((engine, "torch"))]
    lines, records = [], {}
    for n in SCALING[:2] if quick else SCALING:
        cell = Cell(n, 3, 1)
        act, learn = race.run(cell, "act", everyone), race.run(cell, "learn", everyone)
        lines.append([str(cell), *(_ms(row, c) for c in everyone for row in (act, learn))])
        records[str(cell)] = {"act": _records(act), "learn": _records(learn)}
    head = ["n/L/B"] + [f"{c.name} {kind}" for c in everyone for kind in ("act", "learn")]
    peaks, rows, goals = {}, [], []
    for cell, bound in {} if quick else MEMORY.items():
        peaks[str(cell)] = {c.name: extra_memory(c, cell) for c in (*everyone, BACKPROP)}
        rows.append([str(cell), *(m if isinstance(m, str) else short(m) for m in peaks[str(cell)].values())])
        mine = peaks[str(cell)][everyone[0].name]
        found = {str(cell): float("inf") if isinstance(mine, str) else mine}
        goals.append(Goal(f"extra memory of one learn step at {cell}", "<=", bound, " MB", found))
    text = "\n\n".join(
        [
            "Milliseconds:",
            table(head, lines),
            "Memory: the peak of the resident set above its start, over a first learn step at this size in a fresh "
            "process that has made a tiny one (the high-water mark is reset through `/proc/self/clear_refs`), MB:",
            table(["n/L/B", *(c.name for c in (*everyone, BACKPROP))], rows),
        ]
    )
    return Section("Scaling and memory", text, {"times": records, "extra_memory_mb": peaks}, goals)


def exactness(race: Race, engine: str, quick: bool) -> Section:
    """Errors against Qiskit's state vector and the parameter-shift rule."""
    worker = Worker(Accuracy, engine)
    errors = {str(cell): worker.call("errors", cell) for cell in (CELLS[:3] if quick else CELLS)}
    worker.close()
    bounds = {"values f64": 1e-12, "gradients f64": 1e-10, "values f32": 2e-6, "gradients f32": 2e-5}
    notes = {"gradients f32": "gradients f32, of the largest component"}
    goals = [
        Goal(f"error of {notes.get(key, key)}", "<=", bound, "", {c: e[key] for c, e in errors.items()})
        for key, bound in bounds.items()
    ]
    lines = [[cell, *(f"{found[key]:.1e}" for key in bounds)] for cell, found in errors.items()]
    text = "Largest error against Qiskit's `Statevector` and the parameter-shift rule on it.\n\n"
    return Section("Exactness", text + table(["n/L/B", *bounds], lines), errors, goals)


def extra_memory(contender: Contender, cell: Cell) -> float | str:
    """MB that a first learn step adds at its peak, or why it did not end; see ``Timer.extra_memory``."""
    try:
        worker = Worker(Timer, contender)
        try:
            return float(worker.call("extra_memory", cell))
        finally:
            worker.close()
    except Limit as limit:
        return str(limit)


def _ms(row: Timings, contender: Contender) -> str:
    timing = row[contender.name]
    return timing.failure or short(1e3 * timing.median)


def _records(row: Timings) -> dict[str, object]:
    return {name: timing.record() for name, timing in row.items()}
