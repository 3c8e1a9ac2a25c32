"""Signals: the first asks for an end, and a terminal is told that it was heard; the second ends at once."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from bioplaus.cli.options import stop_on_signal


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_is_told_that_the_signal_was_heard(monkeypatch, capfd, number, terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), stop_on_signal() as stopping:
        assert not stopping()
        os.kill(os.getpid(), number)
        assert stopping()
        told = capfd.readouterr().err
        assert told.strip().startswith("Stopping after this batch") if terminal else told == ""
        os.kill(os.getpid(), number)
    assert capfd.readouterr().err == ""
    assert signal.getsignal(number) is before
