"""`parakit studio`: what it refuses before it serves anything."""

from __future__ import annotations

import socket

from parakit.cli.main import main


def test_a_folder_that_is_none_is_named(tmp_path, capsys):
    assert main(["studio", str(tmp_path / "nothing")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_a_port_in_use_is_named_with_the_way_out(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PARAKIT_ACCOUNTS", str(tmp_path / "accounts.sqlite"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["studio", str(tmp_path), "--port", str(port)]) == 2
    error = capsys.readouterr().err
    assert f"port {port}" in error
    assert "--port" in error
