"""The phase clock: closure, exclusive nesting, absorbing phases, CPU time."""

from __future__ import annotations

import threading
import time

import pytest

from qrl.ledger.clock import PhaseClock
from qrl.ledger.schema import PHASES


def busy(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def walls(clock: PhaseClock) -> dict[str, float]:
    return {name: wall * 1e-9 for name, (wall, _) in clock.peek().items()}


def test_phases_sum_to_the_elapsed_time_to_the_nanosecond():
    clock = PhaseClock()
    for k in range(300):
        with clock.phase(PHASES[k % len(PHASES)]):
            busy(2e-5)
            with clock.phase(PHASES[(k * 5 + 1) % len(PHASES)]):
                busy(1e-5)
    times = clock.peek()
    wall, cpu = clock.elapsed_ns
    assert sum(t[0] for t in times.values()) == wall
    assert sum(t[1] for t in times.values()) == cpu
    assert wall > 300 * 3e4


def test_windows_sum_to_the_elapsed_time():
    clock = PhaseClock()
    taken = []
    for _ in range(20):
        with clock.phase("act"):
            busy(1e-4)
            taken.append(clock.take())
    taken.append(clock.take())
    assert sum(t[0] for times in taken for t in times.values()) == clock.elapsed_ns[0]
    assert sum(t[1] for times in taken for t in times.values()) == clock.elapsed_ns[1]


def test_nested_phases_are_exclusive():
    clock = PhaseClock()
    with clock.phase("act"):
        busy(0.01)
        with clock.phase("quantum"):
            busy(0.03)
        busy(0.01)
    found = walls(clock)
    assert found["quantum"] >= 0.03
    assert 0.02 <= found["act"] < found["quantum"] + 0.02
    assert found["act"] + found["quantum"] + found["idle"] == pytest.approx(
        clock.elapsed_ns[0] * 1e-9, rel=1e-12
    )


def test_a_phase_may_nest_in_itself():
    clock = PhaseClock()
    act = clock.phase("act")
    with act, clock.phase("learn"), act:
        busy(0.002)
    assert walls(clock)["act"] >= 0.002
    assert clock.current.name == "idle"


@pytest.mark.parametrize("outer", ["evaluate", "tune", "ledger", "io"])
def test_what_runs_in_an_evaluation_is_not_training(outer):
    clock = PhaseClock()
    with clock.phase(outer):
        for inner in ("act", "quantum", "environment", "learn"):
            with clock.phase(inner):
                busy(0.001)
                assert clock.current.name == outer
    found = walls(clock)
    assert found[outer] >= 0.004
    assert not {"act", "quantum", "environment", "learn"} & set(found)


def test_own_overhead_inside_an_evaluation_is_still_apart():
    clock = PhaseClock()
    with clock.phase("evaluate"), clock.phase("ledger"), clock.phase("io"):
        assert clock.current.name == "io"
        with clock.phase("quantum"):
            assert clock.current.name == "io"
    with clock.phase("tune"), clock.phase("evaluate"):
        assert clock.current.name == "tune"
    assert clock.current.name == "idle"


def test_an_exception_closes_its_phases():
    clock = PhaseClock()
    with pytest.raises(RuntimeError), clock.phase("act"), clock.phase("quantum"):
        raise RuntimeError
    assert clock.current.name == "idle"


def test_waiting_costs_wall_time_and_no_cpu_time():
    clock = PhaseClock()
    for _ in range(20):
        with clock.phase("act"):
            busy(0.0002)
        with clock.phase("queue"):
            time.sleep(0.004)
    times = clock.peek()
    assert times["queue"][0] >= 20 * 4e6
    assert times["queue"][1] < 0.2 * times["queue"][0]
    # the busy stretches are shorter than the pool and must not lose their CPU time to the long wait after
    # them
    assert times["act"][1] > 0.5 * 20 * 0.2e6


def test_cpu_time_of_other_threads_counts():
    clock = PhaseClock()
    with clock.phase("learn"):
        workers = [threading.Thread(target=lambda: sum(range(2_000_000))) for _ in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    wall, cpu = clock.peek()["learn"]
    assert cpu > 0
    assert sum(t[1] for t in clock.peek().values()) == clock.elapsed_ns[1]
    assert wall > 0


def test_an_unknown_phase_is_named_with_its_nearest():
    with pytest.raises(ValueError, match=r"phase: 'lern' .* 'learn'"):
        PhaseClock().phase("lern")
    with pytest.raises(ValueError, match="use one of environment"):
        PhaseClock().phase("zzz")
