"""What every backend promises beyond the mathematics: dtypes, in-place results, NaN, errors in one line."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from bioplaus.backend.cupy import CuPy
from bioplaus.backend.numpy import NumPy
from bioplaus.backend.streams import Stream
from bioplaus.backend.window import Window
from bioplaus.errors import PartError
from bioplaus.updates.links import Momentum

WINDOW = Window((3, 2), (2, 1), (1, 0, 0, 1), (5, 6))
DTYPES = ["float32", "float64"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_keep_axes_and_values_on_the_way_there_and_back(backends, dtype, rng):
    xp = backends(dtype=dtype)
    for shape in [(3,), (2, 3), (2, 3, 4), (2, 3, 4, 5)]:
        x = rng.standard_normal(shape).astype(dtype)
        back = xp.host(xp.array(x))
        np.testing.assert_array_equal(back, x, strict=True)
        assert back.flags.c_contiguous and back.flags.owndata
        np.testing.assert_array_equal(xp.host(xp.zeros(shape)), np.zeros(shape, dtype), strict=True)
        np.testing.assert_array_equal(xp.host(xp.image(xp.array(x))), x, strict=True)


def test_an_array_is_a_copy_of_what_it_was_made_from(backends):
    xp = backends()
    for shape in [(3,), (2, 3, 4, 5)]:
        host = np.zeros(shape, "float32")
        arrays = [xp.array(host), xp.raw(host)]
        host += 1
        assert not any(xp.host(x).any() for x in arrays)


def test_raw_arrays_keep_their_dtype_and_become_floats_when_asked(backends, rng):
    xp = backends()
    images, labels = rng.integers(0, 256, (4, 3, 2, 2), dtype=np.uint8), np.array([3, 0, 1, 2])
    rows = xp.raw(np.array([2, 0]))
    taken = xp.take(xp.raw(images), rows)
    np.testing.assert_array_equal(xp.host(taken), images[[2, 0]], strict=True)
    np.testing.assert_array_equal(xp.host(xp.floats(taken)), images[[2, 0]].astype("float32"), strict=True)
    np.testing.assert_array_equal(xp.host(xp.take(xp.raw(labels), rows)), [1, 3])
    np.testing.assert_array_equal(
        xp.host(xp.one_hot(xp.raw(labels), 4)), np.eye(4, dtype="float32")[labels], strict=True
    )
    several = labels.reshape((2, 2))
    np.testing.assert_array_equal(xp.host(xp.one_hot(xp.raw(several), 4)), np.eye(4, dtype="float32")[several])


@pytest.mark.parametrize("shape", [(7,), (3, 4), (4, 3, 2, 5), (1, 1, 3, 3)])
def test_inner_product_and_unlike_signs(backends, shape, rng):
    """Also where the two lie differently in memory, and where there are zeros."""
    xp = backends(dtype="float64")
    a, b = (rng.integers(-1, 2, shape) * rng.uniform(1.0, 2.0, shape) for _ in range(2))
    pairs = [(xp.array(a), xp.array(b))]
    if len(shape) == 2:
        pairs.append((xp.array(a), xp.array(b.T.copy()).T))
    for A, B in pairs:
        with xp.scope():
            assert float(xp.inner(A, B)) == pytest.approx((a * b).sum(), rel=1e-12)
            assert int(xp.unlike_signs(A, B)) == (np.sign(a) != np.sign(b)).sum() > 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_method_leaves_the_dtype(backends, dtype, rng):
    """No step in float64 where float32 was asked for, whatever kind of number a rate is."""
    xp = backends(dtype=dtype)
    x, W, n = (xp.array(rng.standard_normal(shape)) for shape in [(2, 3, 5, 6), (4, 3, 3, 2), (2, 4, *WINDOW.output)])
    rows, matrix, outer = (xp.array(rng.standard_normal(shape)) for shape in [(5, 3), (3, 4), (5, 4)])
    positive = xp.abs(x) + 1
    with xp.scope():
        y, which = xp.maxpool(x, WINDOW)
        z, mean, sigma = xp.standardize(x, 1e-5)
        results = [
            *(y, z, mean, sigma, xp.maxpool_back(y, x, which, WINDOW), xp.standardize_back(z, x, mean, sigma)),
            *(xp.avgpool(x, WINDOW), xp.avgpool_back(y, x, WINDOW)),
            *(xp.conv(x, W, xp.zeros((1, 4, 1, 1)), WINDOW), xp.conv_down(n, W, WINDOW)),
            *(xp.linear(rows, matrix, xp.zeros((1, 4))), xp.linear_down(outer, matrix), xp.log_softmax(rows)),
            *(xp.sign(x), xp.exp(x), xp.log(positive), xp.sqrt(positive), xp.abs(x), xp.tanh(x)),
            *(xp.sigmoid(x), xp.sigmoid_back(x, x), xp.tanh_back(x, x), xp.stack([x, x])),
            *(xp.relu(x), xp.relu_back(xp.array(xp.host(x)), x), xp.maximum(x, 0.5), xp.maximum(x, x)),
            *(xp.where(x > 0, x, 0.0), xp.where(x > 0, 1.0, x)),
            xp.add_scaled(x, x, 0.1, xp.zeros(x.shape)),
            xp.multiply(x, 0.1, xp.zeros(x.shape)),
        ]
    assert {xp.host(result).dtype.name for result in results} == {dtype}


def test_where_between_two_numbers_has_the_dtype():
    xp = NumPy()
    assert xp.where(np.array([True, False]), 1.0, 0.0).dtype == np.float32


def test_float32_is_computed_in_float32_by_a_float64_rate(rng):
    """A float64 scalar must not take the product through float64: it would round differently."""
    xp, b = NumPy(), rng.standard_normal(1000).astype("float32")
    found = xp.add_scaled(b * 0, b, np.float64(0.1), b * 0)
    np.testing.assert_array_equal(found, b * np.float32(0.1), strict=True)


def test_sign_of_zero_is_zero(backends):
    xp = backends()
    x, out = xp.array([-2.0, -0.0, 0.0, 3.0]), xp.zeros((4,))
    assert xp.host(xp.sign(x)).tolist() == [-1, 0, 0, 1]
    xp.sign(x, out=out)
    assert xp.host(out).tolist() == [-1, 0, 0, 1]


def test_add_and_multiply_write_where_they_are_told_even_into_their_arguments(backends):
    xp = backends()

    def pair():
        return xp.array([1.0, 2.0]), xp.array([10.0, 20.0])

    a, b = pair()
    out = xp.zeros((2,))
    assert xp.add_scaled(a, b, 0.5, out) is out and xp.host(out).tolist() == [6, 12]
    assert xp.multiply(a, b, out) is out and xp.host(out).tolist() == [10, 40]
    assert xp.host(a).tolist() == [1, 2] and xp.host(b).tolist() == [10, 20]
    a, b = pair()
    assert xp.add_scaled(a, b, 0.5, a) is a and xp.host(a).tolist() == [6, 12]
    a, b = pair()
    assert xp.add_scaled(a, b, 0.5, b) is b and xp.host(b).tolist() == [6, 12]
    assert xp.multiply(b, 2.0, b) is b and xp.host(b).tolist() == [12, 24]


def test_relu_keeps_nan_and_its_error_passes_only_where_it_was_active(backends):
    xp = backends()
    x = xp.array([-1.0, 0.0, 2.0, np.nan])
    np.testing.assert_array_equal(xp.host(xp.relu(x)), [0, 0, 2, np.nan])
    np.testing.assert_array_equal(xp.host(x), [-1, 0, 2, np.nan])
    xp.relu(x, inplace=True)
    np.testing.assert_array_equal(xp.host(x), [0, 0, 2, np.nan])
    dy = xp.relu_back(xp.array([np.nan, np.inf, -3.0, -4.0]), xp.array([0.0, -1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(xp.host(dy), [0, 0, -3, -4])


def test_the_larger_keeps_nan(backends):
    xp = backends()
    x = xp.array([np.nan, 1.0, -1.0])
    np.testing.assert_array_equal(xp.host(xp.maximum(x, 0.0)), [np.nan, 1, 0])
    np.testing.assert_array_equal(xp.host(xp.maximum(x, xp.zeros((3,)))), [np.nan, 1, 0])


def test_nan_in_a_window_reaches_the_pool(backends):
    xp = backends()
    window = Window((2, 2), (2, 2), (0, 0, 0, 0), (2, 4))
    for place in range(4):
        x = np.ones((1, 1, 2, 4))
        x[0, 0, place // 2, place % 2] = np.nan
        y, _ = xp.maxpool(xp.array(x), window)
        np.testing.assert_array_equal(xp.host(y), [[[[np.nan, 1]]]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_softmax_of_large_numbers_is_finite(backends, dtype):
    xp = backends(dtype=dtype)
    y = xp.host(xp.log_softmax(xp.array([[1e4, -1e4, 1e4], [-1e4, -1e4, -1e4]])))
    np.testing.assert_allclose(y, [[-np.log(2), -2e4 - np.log(2), -np.log(2)], [-np.log(3)] * 3], rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(4,), (2, 3), (0,)])
def test_cross_entropy_of_labels(backends, dtype, shape, rng):
    xp = backends(dtype=dtype)
    x, labels = 5 * rng.standard_normal((*shape, 6)), rng.integers(0, 6, shape)
    given = xp.array(x)
    lost, error = xp.cross_entropy(given, xp.raw(labels))
    p = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    wanted = -np.log(np.take_along_axis(p, labels[..., None], -1))[..., 0]
    np.testing.assert_allclose(xp.host(lost), wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(xp.host(error), p - np.eye(6)[labels], atol=1e-6)
    assert xp.host(lost).dtype == xp.host(error).dtype == dtype
    np.testing.assert_array_equal(xp.host(given), x.astype(dtype))


@pytest.mark.parametrize("keep", [0.0, 0.5, 1.0])
def test_accumulated_products_keep_what_they_are_told_and_nothing_at_zero(backends, keep, rng):
    """keep = 0 ignores what the array held, NaN included: it starts an accumulation without clearing."""
    xp = backends(dtype="float64")
    old = np.nan if keep == 0 else 3.0
    before = 0.0 if keep == 0 else keep * 3.0

    for lead in [(2, 4), (4,), (1,), (1, 1)]:
        x, n = rng.standard_normal((*lead, 3)), rng.standard_normal((*lead, 5))
        out, bias = xp.array(np.full((3, 5), old)), xp.array(np.full((1, 5), old))
        xp.linear_outer(xp.array(x), xp.array(n), out, 0.25, keep, bias)
        expected = x.reshape(-1, 3).T @ n.reshape(-1, 5)
        np.testing.assert_allclose(xp.host(out), before + 0.25 * expected, rtol=1e-12, atol=1e-14)
        expected = n.reshape(-1, 5).sum(0)[None]
        np.testing.assert_allclose(xp.host(bias), before + 0.25 * expected, rtol=1e-12, atol=1e-14)

    x, n = rng.standard_normal((2, 3, 4, 4)), rng.standard_normal((2, 5, 4, 4))
    out, bias = xp.array(np.full((5, 3, 1, 1), old)), xp.array(np.full((1, 5, 1, 1), old))
    xp.conv_outer(xp.array(x), xp.array(n), out, Window((1, 1), (1, 1), (0,) * 4, (4, 4)), 0.25, keep, bias)
    expected = np.einsum("nihw,nohw->oi", x, n)[:, :, None, None]
    np.testing.assert_allclose(xp.host(out), before + 0.25 * expected, rtol=1e-12, atol=1e-14)
    expected = n.sum((0, 2, 3)).reshape(1, 5, 1, 1)
    np.testing.assert_allclose(xp.host(bias), before + 0.25 * expected, rtol=1e-12, atol=1e-14)


def test_nothing_but_the_named_results_is_written(backends, rng):
    """Maps, pools and statistics leave their arguments as they were; a tape may still need them."""
    xp = backends()
    hosts = [rng.standard_normal(shape) for shape in [(2, 3, 5, 6), (4, 3, 3, 2), (2, 4, *WINDOW.output)]]
    x, W, n = arrays = [xp.array(host) for host in hosts]
    d = xp.array(rng.standard_normal((2, 3, *WINDOW.output)))
    before = [xp.host(array) for array in (*arrays, d)]
    with xp.scope():
        xp.conv(x, W, None, WINDOW)
        xp.conv_down(n, W, WINDOW, xp.array(np.ones((1, 3, 1, 1))))
        xp.conv_outer(x, n, xp.zeros(W.shape), WINDOW, 0.5, 0.0)
        _, which = xp.maxpool(x, WINDOW)
        xp.maxpool_back(d, x, which, WINDOW)
        xp.avgpool_back(d, x, WINDOW)
        _, mean, sigma = xp.standardize(x, 1e-5)
        xp.standardize_back(x, x, mean, sigma)
    for array, host in zip((*arrays, d), before, strict=True):
        np.testing.assert_array_equal(xp.host(array), host)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1000,), (4, 3, 5, 2)])
def test_uniform_numbers_are_a_function_of_the_stream(backends, dtype, shape):
    xp = backends(dtype=dtype)

    def drawn(stream):
        out = xp.array(np.full(shape, 7.0))
        xp.uniform(stream, out)
        return xp.host(out)

    stream = Stream(1).at("M", 3)
    first = drawn(stream)
    np.testing.assert_array_equal(first, drawn(stream), strict=True)
    assert ((first >= 0) & (first < 1)).all() and np.unique(first).size > 0.9 * first.size
    assert (first != drawn(stream.at(0))).any()
    if xp.device == "cpu":  # whatever the memory order, element by element in C order
        np.testing.assert_array_equal(first, stream.generator().random(shape, dtype=np.dtype(dtype)), strict=True)


def test_overflow_and_nan_warn_nobody_inside_a_scope():
    xp = NumPy()
    with xp.scope():
        assert np.isinf(xp.exp(xp.array([1e4]))).all()
        assert np.isnan(xp.log(xp.array([-1.0]))).all()
        assert np.isinf(xp.log(xp.array([0.0]))).all()
    with pytest.warns(RuntimeWarning):
        xp.log(xp.array([-1.0]))


def test_long_float32_sums_keep_their_digits(backends):
    """A naive running sum over 10^6 elements is off by 5e-4."""
    xp = backends()
    x = np.full((64, 1, 128, 128), 0.1, "float32")
    x[:, :, ::2] += 1
    _, mean, sigma = xp.standardize(xp.array(x), 0.0)
    np.testing.assert_allclose([float(mean[0]), float(sigma[0])], [0.6, 0.5], rtol=1e-5)


def test_a_device_or_dtype_that_is_not_there_is_refused_in_one_line():
    with pytest.raises(
        PartError, match=r"^backend 'numpy': device 'cuda:0' given, it runs on 'cpu' only\. Use device cpu\.$"
    ):
        NumPy(device="cuda:0")
    with pytest.raises(PartError, match=r"^backend 'numpy': no dtype 'float16' here\. Use float32 or float64\.$"):
        NumPy(dtype="float16")


def test_threads_are_recorded():
    assert NumPy(threads=3).threads == 3 and NumPy().threads is None


def test_the_momentum_of_a_dead_unit_ends_at_zero_on_torch():
    """Among denormal numbers 0.9 tau rounds to tau itself at last; outside the scope they count as ever."""
    pytest.importorskip("torch")
    from bioplaus.backend.torch import Torch

    xp, link, smallest = Torch(), Momentum(0.9), float("5e-324")
    with xp.scope():
        W, nothing = xp.zeros((4,)), xp.zeros((4,))
        state = {"tau": W + 1.0}
        for _ in range(1000):
            with xp.scope():
                link.step(xp, nothing, W, state, "weights", nothing)
        assert (xp.host(state["tau"]) == 0.0).all()
        assert smallest * 1.0 == 0.0
    assert smallest * 1.0 > 0.0


def test_threads_that_work_for_torch_count_denormal_numbers_outside_the_scope_as_ever():
    """In a program of its own: here they have long begun."""
    pytest.importorskip("torch")
    program = """if True:
        import torch
        from bioplaus.backend.torch import Torch
        xp = Torch(threads=2)
        gone = lambda: int((torch.full((1 << 18,), 1e-40) * 1.0 == 0.0).sum())
        with xp.scope():
            inside = gone()
        print(inside, gone())
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(1 << 18), "0"]


@pytest.mark.skipif(importlib.util.find_spec("cupy") is not None, reason="CuPy is installed")
def test_cupy_that_is_not_installed_says_what_to_install():
    with pytest.raises(
        PartError, match=r"^backend 'cupy' is not installed\. Install bioplaus\[cuda12\].*--backend numpy\.$"
    ):
        CuPy()


class _CuPyStandIn:
    """Enough of CuPy to be asked what it has."""

    __version__ = "14.0"

    def __init__(self, devices: int) -> None:
        self.is_available = lambda: devices > 0
        runtime = type("runtime", (), {"getDeviceCount": staticmethod(lambda: devices)})
        self.cuda = type("cuda", (), {"runtime": runtime})


@pytest.mark.parametrize(
    "devices, device, line",
    [
        (0, "cuda:0", r"^backend 'cupy': CuPy 14\.0 sees no CUDA GPU\. Run with --backend numpy, or .*\.$"),
        (2, "cuda:2", r"^backend 'cupy': device 'cuda:2' given, here are cuda:0 to cuda:1\. Use one of them\.$"),
        (2, "cpu", r"^backend 'cupy': device 'cpu' given, here are cuda:0 to cuda:1\. Use one of them\.$"),
    ],
)
def test_cupy_without_the_device_says_so(monkeypatch, devices, device, line):
    monkeypatch.setattr("bioplaus.backend.cupy._library", lambda: _CuPyStandIn(devices))
    with pytest.raises(PartError, match=line):
        CuPy(device=device)
