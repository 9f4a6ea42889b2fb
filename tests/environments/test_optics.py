"""Optics against closed forms, published numbers and independent thick-lens transport."""

import math

import numpy as np
import pytest

from environments.optics import (
    Twiss,
    awake_devices,
    awake_optics,
    awake_quadrupoles,
    drift_matrix,
    propagate,
    quadrupole_matrix,
    response_matrix,
    transport_matrix,
)

# horizontal response, m/rad, to four decimals
TABLE = [
    [0.9103],
    [1.9366, 0.9404],
    [3.1197, 2.4528, 1.5764],
    [4.8346, 4.1049, 3.0149, 0.8188],
    [7.6756, 6.8759, 5.4623, 2.4686, 1.4873],
    [-9.8280, -8.6756, -6.7520, -2.7424, -1.3093, 1.1244],
    [-21.3422, -18.9296, -14.8319, -6.2482, -3.2599, 1.7531, 0.7355],
    [-16.4630, -14.6339, -11.5013, -4.9239, -2.6628, 1.1074, 0.9154, 0.6203],
    [-10.2488, -9.1755, -7.2831, -3.2782, -1.9604, 0.1891, 1.2809, 1.8299, 0.8581],
    [-6.5186, -5.9520, -4.8508, -2.4630, -1.7843, -0.7680, 2.0771, 3.7272, 2.1932, 1.0345],
]
# stretches of the line that hold quadrupoles and nothing else that bends or focuses
STRETCHES = [
    ("MCAWA.430029", "BPM.430039", ["430031", "430034", "430037"]),
    ("MCAWA.430104", "BPM.430129", ["430109", "430118", "430128"]),
    ("MCAWA.412344", "BPM.412345", ["412344"]),
    ("MCAWA.412345", "BPM.412347", ["412346"]),
    ("MCAWA.412347", "BPM.412349", ["412347"]),
]


def _device(name):
    return next(device for device in awake_devices() if device.name == name)


def _stretch_matrix(start, end, quadrupoles, plane, changes=None):
    sign = 1.0 if plane == "horizontal" else -1.0
    matrix, position = np.eye(2), _device(start).s
    for name in quadrupoles:
        magnet = awake_quadrupoles()[name]
        strength = sign * (magnet.k1l + (changes or {}).get(name, 0.0))
        matrix = drift_matrix(magnet.s - magnet.length / 2 - position) @ matrix
        matrix = quadrupole_matrix(strength, magnet.length) @ matrix
        position = magnet.s + magnet.length / 2
    return drift_matrix(_device(end).s - position) @ matrix


def test_transport_has_determinant_one_and_composes():
    generator = np.random.default_rng(1)
    for _ in range(50):
        beta, alpha, mu = (
            generator.uniform(1, 300, 3),
            generator.uniform(-20, 20, 3),
            generator.uniform(0, 6, 3),
        )
        a, b, c = (Twiss(*map(float, point)) for point in zip(beta, alpha, mu, strict=True))
        assert np.linalg.det(transport_matrix(a, b)) == pytest.approx(1.0, abs=1e-9)
        chained = transport_matrix(b, c) @ transport_matrix(a, b)
        np.testing.assert_allclose(chained, transport_matrix(a, c), rtol=1e-9, atol=1e-8)


def test_transport_and_propagation_agree():
    start = Twiss(5.0, -1.3, 0.2)
    matrix = drift_matrix(0.7) @ quadrupole_matrix(0.8, 0.1) @ drift_matrix(0.4)
    np.testing.assert_allclose(transport_matrix(start, propagate(start, matrix)), matrix, atol=1e-12)


@pytest.mark.parametrize("k1l", [-2.2, -1e-9, 0.0, 1e-9, 1.9])
def test_quadrupole_matrix_is_symplectic_and_thin_in_the_limit(k1l):
    assert np.linalg.det(quadrupole_matrix(k1l, 0.07)) == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(quadrupole_matrix(k1l, 1e-9), [[1.0, 0.0], [-k1l, 1.0]], atol=1e-8)


def test_horizontal_response_is_the_published_table():
    response = awake_optics("horizontal").response
    expected = np.zeros((10, 10))
    for row, values in enumerate(TABLE):
        expected[row, : len(values)] = values
    np.testing.assert_allclose(response, expected, atol=1e-4)
    assert response[0, 0] == pytest.approx(0.910305393, abs=5e-10)
    assert response[6, 0] == pytest.approx(-21.342212608, abs=5e-9)
    assert awake_optics("vertical").response[0, 0] == pytest.approx(0.963944961, abs=5e-10)


@pytest.mark.parametrize(
    ("plane", "condition", "singular_values"),
    [
        ("horizontal", 280.33, [50.496, 5.247, 1.750, 0.841, 0.784, 0.526, 0.325, 0.312, 0.255, 0.180]),
        ("vertical", 83.07, [15.816, 4.828, 2.288, 1.360, 0.673, 0.463, 0.321, 0.280, 0.210, 0.190]),
    ],
)
def test_condition_number_and_singular_values(plane, condition, singular_values):
    response = awake_optics(plane).response
    assert np.linalg.cond(response) == pytest.approx(condition, abs=5e-3)
    np.testing.assert_allclose(np.linalg.svd(response, compute_uv=False), singular_values, atol=6e-4)


@pytest.mark.parametrize("plane", ["horizontal", "vertical"])
def test_response_equals_m12_of_the_transport(plane):
    optics = awake_optics(plane)
    for i, bpm in enumerate(optics.bpm_twiss):
        for j, corrector in enumerate(optics.corrector_twiss):
            expected = transport_matrix(corrector, bpm)[0, 1] if bpm.mu > corrector.mu else 0.0
            assert optics.response[i, j] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("plane", ["horizontal", "vertical"])
@pytest.mark.parametrize(("start", "end", "quadrupoles"), STRETCHES)
def test_derived_quadrupole_positions_reproduce_the_optics(plane, start, end, quadrupoles):
    found = propagate(getattr(_device(start), plane), _stretch_matrix(start, end, quadrupoles, plane))
    listed = getattr(_device(end), plane)
    assert found.beta == pytest.approx(listed.beta, rel=2e-5)
    assert found.alpha == pytest.approx(listed.alpha, rel=2e-5, abs=2e-5)
    assert math.sin(found.mu - listed.mu) == pytest.approx(0.0, abs=2e-6)


@pytest.mark.parametrize("plane", ["horizontal", "vertical"])
@pytest.mark.parametrize(("start", "end", "quadrupoles"), STRETCHES)
def test_thin_gradient_error_matches_the_thick_magnet(plane, start, end, quadrupoles):
    """A 1 % change of one magnet, by the formula at its centre and by recomputing the stretch with a thick
    magnet."""
    optics = awake_optics(plane)
    name = quadrupoles[0]
    change = 0.01 * awake_quadrupoles()[name].k1l
    after, before = optics.gradient_error(name)
    row, column = optics.bpm_names.index(end), optics.corrector_names.index(start)
    nominal = _stretch_matrix(start, end, quadrupoles, plane)[0, 1]
    changed = _stretch_matrix(start, end, quadrupoles, plane, {name: change})[0, 1]
    assert -change * after[row] * before[column] == pytest.approx(changed - nominal, rel=0.03)


def test_gradient_error_acts_only_across_the_magnet():
    optics = awake_optics("horizontal")
    after, before = optics.gradient_error("430118")
    behind = np.array(optics.bpm_s) > awake_quadrupoles()["430118"].s
    np.testing.assert_array_equal(after != 0.0, behind)
    np.testing.assert_array_equal(before != 0.0, optics.corrector_s < awake_quadrupoles()["430118"].s)


def test_unknown_quadrupole_is_named():
    with pytest.raises(ValueError, match=r"^quadrupole: '1' is unknown; use one of 430031"):
        awake_optics().gradient_error("1")


def test_response_is_zero_in_front_of_the_kick():
    ahead, behind = Twiss(2.0, 0.0, 1.0), Twiss(8.0, 0.0, 1.5)
    np.testing.assert_allclose(response_matrix([behind], [ahead]), [[4.0 * math.sin(0.5)]])
    np.testing.assert_array_equal(response_matrix([ahead], [behind]), [[0.0]])
