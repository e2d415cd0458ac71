"""Reading files that may be anything: configuration, resolv.conf and hosts file are opened this way."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from salsa_agent.system.files import read_file, whole_lines


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "file"
    for content in (b"", b"one\n", b"x" * 100_000):
        file.write_bytes(content)
        assert read_file(file, 100_000) == content
        assert read_file(str(file), 100_000) == content


def test_of_a_longer_file_one_octet_more_than_the_bound_is_read(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with file.open("wb") as sparse:
        sparse.truncate(1 << 40)
    assert len(read_file(file, 1000)) == 1001


def test_a_line_that_was_cut_does_not_count() -> None:
    assert whole_lines(b"one\ntwo", 7) == b"one\ntwo"
    assert whole_lines(b"one\ntwo", 6) == b"one\n"
    assert whole_lines(b"onetwo", 5) == b""


def test_what_could_be_waited_for_is_not_read(tmp_path: Path) -> None:
    fifo, there = tmp_path / "fifo", tmp_path / "socket"
    os.mkfifo(fifo)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(there))
        for path, why in ((fifo, "not a regular file"), (Path("/dev/zero"), "not a regular file")):
            with pytest.raises(OSError) as error:
                read_file(path, 10)
            assert error.value.strerror == why
        with pytest.raises(OSError, match="No such device or address"):
            read_file(there, 10)
    with pytest.raises(IsADirectoryError):
        read_file(tmp_path, 10)
    writer = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)  # nor where somebody writes to it
    try:
        os.write(writer, b"nameserver 192.0.2.1\n")
        with pytest.raises(OSError, match="not a regular file"):
            read_file(fifo, 10)
    finally:
        os.close(writer)


def test_a_pipe_is_read_to_its_end_where_that_is_wanted() -> None:
    read, write = os.pipe()
    try:
        with os.fdopen(write, "wb") as writer:
            writer.write(b"one\n")
        assert read_file(f"/dev/fd/{read}", 10, pipe=1.0) == b"one\n"
    finally:
        os.close(read)


def test_dev_null_is_an_empty_file(tmp_path: Path) -> None:
    masked = tmp_path / "masked"
    masked.symlink_to("/dev/null")
    assert read_file(masked, 10) == b""


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    test_what_could_be_waited_for_is_not_read(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before
