"""The real files, where BIOPLAUS_DATA names a folder that has them."""

import time

import numpy as np
import pytest

from bioplaus.data import fit, load


def test_mnist(data_dir):
    """Counts and moments as published: mean 33.318, deviation 78.567."""
    mnist = load("mnist", data_dir=data_dir, size=(1, 28, 28))
    assert mnist.train.x.shape == (60000, 1, 28, 28) and mnist.test.x.shape == (10000, 1, 28, 28)
    assert mnist.train.y[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    _, preprocess = fit("standard", mnist)
    assert preprocess.mean.mean() == pytest.approx(33.318, abs=1e-3)
    assert 1 / preprocess.scale == pytest.approx(78.567, abs=1e-3)


def test_cifar10_is_there_in_seconds(data_dir):
    """Balanced classes, known moments; a loop over samples would take a minute, a busy machine twice the usual 2 s."""
    start = time.process_time()
    cifar = load("cifar10", data_dir=data_dir, size=(3, 32, 32))
    assert time.process_time() - start < 10
    assert (np.bincount(cifar.train.y) == 5000).all() and (np.bincount(cifar.test.y) == 1000).all()
    assert cifar.names[cifar.train.y[0]] == "frog"
    channels = cifar.train.x.mean(axis=(0, 2, 3), dtype=np.float64)
    np.testing.assert_allclose(channels / 255, [0.4914, 0.4822, 0.4465], atol=1e-4)
