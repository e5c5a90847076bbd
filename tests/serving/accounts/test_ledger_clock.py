"""The clock of quotas advances, whatever the time of day does."""

from __future__ import annotations

import pytest

from parakit.serving.accounts import clock as clock_module
from parakit.serving.accounts.clock import Instant, LedgerClock
from parakit.serving.accounts.database import open_database, transaction

DAY = 86400.0


@pytest.fixture
def machine(monkeypatch):
    """A machine whose clocks the test sets."""

    class Machine:
        wall, boot, boot_seconds = 1e9, "first", 100.0

        def pass_time(self, seconds):
            self.wall += seconds
            self.boot_seconds += seconds

        def now(self):
            return Instant(self.wall, self.boot, self.boot_seconds)

    machine = Machine()
    monkeypatch.setattr(clock_module, "instant", machine.now)
    monkeypatch.setattr(clock_module, "seconds_since_boot", lambda: machine.boot_seconds)
    return machine


def stored(connection, clock):
    with transaction(connection):
        clock.store(connection)
    return clock.now()


@pytest.mark.parametrize("jump", [-365 * DAY, -3600.0, 0.0, 3600.0, 70 * 365 * DAY])
def test_a_jump_of_the_time_of_day_changes_nothing_while_the_machine_runs(tmp_path, machine, jump):
    connection = open_database(tmp_path / "accounts.sqlite")
    clock = LedgerClock(connection, machine.now())
    start = clock.now()
    machine.pass_time(60)
    machine.wall += jump
    assert clock.now() == start + 60
    stored(connection, clock)
    machine.pass_time(5)
    assert LedgerClock(connection, machine.now()).now() == start + 65  # the next server, too
    connection.close()


@pytest.mark.parametrize(("away", "advance"), [(7200.0, 7200.0), (-7200.0, 0.0)])
def test_after_a_restart_of_the_machine_the_time_of_day_counts_unless_it_went_back(
    tmp_path, machine, away, advance
):
    connection = open_database(tmp_path / "accounts.sqlite")
    before = stored(connection, LedgerClock(connection, machine.now()))
    machine.boot, machine.boot_seconds, machine.wall = "second", 3.0, machine.wall + away
    assert LedgerClock(connection, machine.now()).now() == before + advance
    connection.close()


def test_a_server_that_lags_does_not_set_the_clock_back(tmp_path, machine):
    connection = open_database(tmp_path / "accounts.sqlite")
    lagging = LedgerClock(connection, machine.now())
    machine.pass_time(1000)
    ahead = LedgerClock(connection, Instant(machine.wall, machine.boot, machine.boot_seconds))
    latest = stored(connection, ahead) + 0
    lagging.offset -= 500
    stored(connection, lagging)
    assert connection.execute("SELECT clock FROM clock").fetchone()[0] == latest
    connection.close()
