"""How large a configuration may be: a generated file with an error gets a clear sentence, in time and within memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from salsa_agent.config import file as config
from salsa_agent.config.bounds import (
    MOST_BYTES,
    MOST_BYTES_IN_ALL,
    MOST_ENTRIES,
    MOST_PARTS,
    MOST_RELAYS,
    MOST_TEXT,
    deep_key,
)

ROOM = 64 << 20  # MemoryMax of the unit is 128 MiB, and the agent itself has 40


def problems(file: Path, text: str) -> list[str]:
    file.write_text(text)
    return [str(problem).removeprefix(f"{file}: ") for problem in config.check(file).problems]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "salsa-agent.toml"


def relays(count: int, table: str = "") -> str:
    return "[" + ", ".join(f'"r{n}.{table}example.net"' for n in range(count)) + "]"


def site(number: int, relays: str = '["a"]') -> str:
    return f'[[site]]\nname = "n{number}"\nprefix = ["10.0.0.0/8"]\nrelays = {relays}\n'


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("a" + ".a" * 100_000 + " = 1", "a.a.a.a"),
        ("static.relays.a.b = 1", "static.relays.a.b"),
        ("a" + " . a" * 60_000 + " = 1", "a . a . a . a"),
        ('a = { "b"' + '."b"' * 50_000 + " = 1 }", '"b"."b"."b"."b"'),
        ("[a" + ".a" * 100_000 + "]", "a.a.a.a"),
        ("[[a" + ".'a'" * 60_000 + "]]", 'a."a"."a"."a"'),
        ("a" * 100_000 + ".b.c.d = 1", "a" * 100),
        ('"\\u001b"' + ".b" * 4 + " = 1", '"".b.b.b'),
    ],
)
def test_a_key_of_many_parts_is_said_to_be_one(file: Path, text: str, key: str) -> None:
    assert problems(file, text) == [f"has a key with more than {MOST_PARTS} parts: {key}"]


@pytest.mark.parametrize(
    "text",
    [
        b"a" + b".a" * (MOST_PARTS - 1) + b" = 1",
        b'relays = ["a.b.c.d.e.f.g.h.i.j.k.l.m.n.example.net"]',
        b"# a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p",
        b"b = 1 # it's a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p",
        b"b = '''\na.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p = 1\n'''",
        b'b = "\\" # a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p"',
        b'b = """\n"a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p\n"""',
    ],
)
def test_what_only_looks_like_such_a_key_is_none(text: bytes) -> None:
    assert not deep_key(text)


def test_a_list_has_at_most_1000_entries(file: Path) -> None:
    assert not problems(file, f"[static]\nrelays = {relays(MOST_ENTRIES)}\n")
    said = problems(file, f"[static]\nrelays = {relays(MOST_ENTRIES + 1)}\n")
    assert said == [f"static.relays: must have at most {MOST_ENTRIES} entries"]
    levels = f"[network]\nipv4_levels = [{'8, ' * (MOST_ENTRIES + 1)}]\n"
    assert problems(file, levels) == ["network.ipv4_levels: must be a list of multiples of 8 from 8 to 32"]


def test_there_are_at_most_1000_sites_over_all_files(file: Path) -> None:
    half = [site(number) for number in range(MOST_ENTRIES)]
    assert not problems(file, "".join(half))
    assert problems(file, "".join([*half, site(5000)])) == [f"site: more than {MOST_ENTRIES} entries"]
    file.write_text("".join(half[1:]))
    drop_in = file.with_name("salsa-agent.toml.d") / "1.toml"
    drop_in.parent.mkdir()
    drop_in.write_text(half[0])
    assert not config.check(file).problems
    drop_in.write_text(half[0] + site(5000))
    [problem] = config.check(file).problems
    assert str(problem) == f"{drop_in}: site: more than {MOST_ENTRIES} entries in all"


def test_there_are_at_most_4000_relays_in_all(file: Path) -> None:
    full = MOST_RELAYS // MOST_ENTRIES
    text = "".join(site(number, relays(MOST_ENTRIES, f"s{number}.")) for number in range(full))
    assert not problems(file, text)
    said = problems(file, text + '[[sender]]\naddress = ["*@example.org"]\nrelays = ["a"]\n')
    assert said == [f"sender[1].relays: more than {MOST_RELAYS} relays in all"]


def test_a_pattern_has_at_most_320_characters(file: Path) -> None:
    assert not problems(file, f'[policy]\nallow = ["{"a" * MOST_TEXT}"]\n')
    [said] = problems(file, f'[policy]\nallow = ["{"*a" * MOST_TEXT}"]\n')
    assert said.startswith('policy.allow: "*a*a')
    assert said.endswith(f"is not a shell pattern of 1 to {MOST_TEXT} printable characters")


def test_files_have_a_size_alone_and_together(file: Path) -> None:
    assert not problems(file, "#" * MOST_BYTES)
    assert problems(file, "#" * (MOST_BYTES + 1)) == ["longer than 256 KiB"]
    file.write_text("")
    folder = file.with_name("salsa-agent.toml.d")
    folder.mkdir()
    for number in range(MOST_BYTES_IN_ALL // MOST_BYTES):
        (folder / f"{number}.toml").write_text("#" * MOST_BYTES)
    assert not config.check(file).problems
    (folder / "z.toml").write_text("##")
    [problem] = config.check(file).problems
    assert str(problem) == f"{folder / 'z.toml'}: longer than 1024 KiB together with the files before it"


@pytest.mark.parametrize(
    "line",
    [
        "[t{n}]\n",
        "[t{n}.a.b]\n",
        "t{n}.a.b = 1\n",
        "t{n} = 1\n",
        "[[site]]\n#{n}\n",
        "[[t{n}]]\n",
    ],
)
def test_a_file_full_of_errors_costs_no_more_than_the_agent_has(file: Path, line: str) -> None:
    lines: list[str] = []
    size = 0
    while size < MOST_BYTES - 100:
        lines.append(line.format(n=len(lines)))
        size += len(lines[-1])
    file.write_text("".join(lines))
    tracemalloc.start()
    try:
        assert config.check(file).problems
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < ROOM
