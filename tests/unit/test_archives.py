"""Files by their ending: what is cut off, damaged or has something behind it is an error, never the end of the file."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import os
import random
import sys
import threading
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperfill.archives import ArchiveError, Compress, Input, Output, open_input, open_stdin
from hyperfill.errors import Refused, UsageError
from hyperfill.inputs import expand

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def zstd_compress(data: bytes) -> bytes:
    """With a checksum, as the command line tool writes it."""
    return zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1})


COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "zst": zstd_compress, "bz2": bz2.compress}
ENDINGS = sorted(COMPRESS)
# Neither compresses to next to nothing nor not at all; more than one block of every format.
ROWS = b"".join(b"%d,%s,x\n" % (i, random.Random(i).randbytes(6).hex().encode()) for i in range(60_000))


def put(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def read_all(path: Path, n: int = 1 << 20) -> bytes:
    with open_input(path) as file:
        return drain(file, n)


def drain(file: Input, n: int = 1 << 20) -> bytes:
    parts = []
    while data := file.read(n):
        assert len(data) <= n
        parts.append(data)
    assert file.read(n) == b""  # and stays at the end
    return b"".join(parts)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("n", [1_000, 70_001, 1 << 20])
def test_one_member(tmp_path: Path, ending: str, n: int) -> None:
    path = put(tmp_path, f"rows.csv.{ending}", COMPRESS[ending](ROWS))
    assert read_all(path, n) == ROWS


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_compresses_extremely_well_comes_in_pieces(tmp_path: Path, ending: str) -> None:
    path = put(tmp_path, f"zeros.{ending}", COMPRESS[ending](bytes(50_000_000)))
    with open_input(path) as file:
        sizes = []
        while data := file.read(100_000):
            sizes.append(len(data))
    assert (sum(sizes), max(sizes)) == (50_000_000, 100_000)


@pytest.mark.parametrize("ending", ENDINGS)
def test_members_one_after_another(tmp_path: Path, ending: str) -> None:
    compress = COMPRESS[ending]
    parts = [ROWS[:10], b"", ROWS[10:300_000], b"", ROWS[300_000:]]
    path = put(tmp_path, f"rows.{ending.upper()}", b"".join(compress(p) for p in parts))
    assert read_all(path) == ROWS
    assert read_all(put(tmp_path, f"nothing.{ending}", compress(b""))) == b""


def test_frames_that_a_reader_is_to_skip(tmp_path: Path) -> None:
    skipped = b"\x53\x2a\x4d\x18" + (7).to_bytes(4, "little") + b"comment"
    first, second = zstd_compress(ROWS[:1000]), zstd_compress(ROWS[1000:])
    assert read_all(put(tmp_path, "rows.zst", skipped + first + skipped + second + skipped)) == ROWS
    with pytest.raises(ArchiveError, match="truncated"):
        read_all(put(tmp_path, "cut.zst", first + skipped[:-1]))


@cache
def two_members(ending: str) -> tuple[bytes, bytes]:
    """The first member, and the whole archive."""
    first = COMPRESS[ending](ROWS[:1500])
    return first, first + COMPRESS[ending](ROWS[1500:200_000])


@pytest.mark.parametrize("ending", ENDINGS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_cut_at_any_place_is_an_error(tmp_path_factory: pytest.TempPathFactory, ending: str, data: Any) -> None:
    whole = ROWS[:200_000]
    first, archive = two_members(ending)
    cut = data.draw(st.integers(0, len(archive) - 1).filter(lambda at: at != len(first)))
    path = put(tmp_path_factory.mktemp("cut"), f"rows.csv.{ending}", archive[:cut])
    with open_input(path) as file, pytest.raises(ArchiveError) as caught:
        got = b""
        while part := file.read(65536):
            got += part
            assert whole.startswith(got)
    assert str(path) in caught.value.message
    assert caught.value.exit_code == 4


def test_a_zstd_file_that_ends_between_two_blocks(tmp_path: Path) -> None:
    """What a full disk leaves: every block is whole, and more should follow."""
    compressor = zstd.ZstdCompressor()
    blocks = [
        compressor.compress(ROWS[i : i + 50_000], mode=zstd.ZstdCompressor.FLUSH_BLOCK)
        for i in range(0, 500_000, 50_000)
    ]
    path = put(tmp_path, "rows.zst", b"".join(blocks))
    got = b""
    with open_input(path) as file, pytest.raises(ArchiveError, match="truncated: it ends after"):
        while part := file.read(50_000):
            got += part
    assert got == ROWS[:500_000]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("behind", [b"\0", b"\0" * 600, b"1,2,3\n", b"BZ", b"garbage" * 100_000])
def test_something_behind_the_last_member(tmp_path: Path, ending: str, behind: bytes) -> None:
    path = put(tmp_path, f"rows.{ending}", COMPRESS[ending](ROWS) + behind)
    with pytest.raises(ArchiveError, match=r"behind its last|truncated"):
        read_all(path)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_flipped_bit_is_an_error(tmp_path: Path, ending: str) -> None:
    archive = bytearray(COMPRESS[ending](ROWS[:100_000]))
    places = random.Random(1)
    # Header fields that mean nothing (a time, a file name) are not covered by any checksum.
    for at in [len(archive) - 1, *(places.randrange(20, len(archive) - 8) for _ in range(60))]:
        damaged = bytearray(archive)
        damaged[at] ^= 1 << places.randrange(8)
        with pytest.raises(ArchiveError):
            read_all(put(tmp_path, f"rows.{ending}", bytes(damaged)))


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("content", "words"), [(b"", "is empty"), (b"1,2,3\n" * 9, "is no"), (b"\x1f", "truncated|is no")]
)
def test_what_is_no_archive_at_all(tmp_path: Path, ending: str, content: bytes, words: str) -> None:
    path = put(tmp_path, f"rows.{ending}", content)
    with pytest.raises(ArchiveError, match=words):
        read_all(path)


def test_a_plain_file_has_places(tmp_path: Path) -> None:
    path = put(tmp_path, "rows.csv", ROWS)
    with open_input(path) as file:
        assert (file.seekable, file.size, file.position) == (True, len(ROWS), 0)
        assert file.read(10) == ROWS[:10]
        file.seek(500)
        assert file.position == 500
        assert drain(file) == ROWS[500:]
        assert file.position == len(ROWS)
    assert read_all(put(tmp_path, "empty.csv", b"")) == b""


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_archive_has_no_places_but_progress(tmp_path: Path, ending: str) -> None:
    path = put(tmp_path, f"rows.{ending}", COMPRESS[ending](ROWS))
    with open_input(path) as file:
        assert (file.seekable, file.size) == (False, path.stat().st_size)
        drain(file)
        assert file.position == file.size
        with pytest.raises(ArchiveError, match="only be read from its front"):
            file.seek(0)


@pytest.mark.parametrize("change", [b"more\n", None])
def test_a_file_that_changes_while_it_is_read(tmp_path: Path, change: bytes | None) -> None:
    path = put(tmp_path, "rows.csv", ROWS)
    with open_input(path) as file, pytest.raises(ArchiveError, match="changed while it was read"):
        file.read(100)
        if change:
            with path.open("ab") as writer:
                writer.write(change)
        else:
            os.truncate(path, 200)
        drain(file)


def test_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv.gz"
    os.mkfifo(path)
    archive = gzip.compress(ROWS)
    inputs = expand([str(path)])
    assert (inputs.files, inputs.streams, inputs.resumable) == ((path,), (path,), False)
    writer = threading.Thread(target=path.write_bytes, args=(archive[:-3],))
    writer.start()
    with open_input(path) as file, pytest.raises(ArchiveError, match="truncated"):
        assert (file.size, file.seekable) == (None, False)
        drain(file)
    writer.join(10)


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.set_blocking(read, False)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(os.fdopen(read, "rb")))

    def slowly() -> None:
        for at in range(0, len(ROWS), 300_000):
            os.write(write, ROWS[at : at + 300_000])
        os.close(write)

    writer = threading.Thread(target=slowly)
    writer.start()
    with open_stdin() as file:
        assert (file.size, file.seekable) == (None, False)
        assert drain(file) == ROWS
    writer.join(10)
    os.fstat(read)  # still open
    sys.stdin.close()


# FILE arguments


def test_names_and_globs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b.csv", "a2.csv", "a10.csv", "z.csv.gz", "[x].csv"):
        put(tmp_path, name, b"")
    assert expand(["z.csv.gz", "a*.csv", "b.csv"]).files == tuple(map(Path, ("z.csv.gz", "a10.csv", "a2.csv", "b.csv")))
    assert expand([str(tmp_path / "?.csv")]).files == (tmp_path / "b.csv",)
    assert expand(["[x].csv"]).files == (Path("[x].csv"),)  # it exists: no glob
    assert expand(["./b.csv"]).resumable
    assert expand(["-"]).stdin and not expand(["-"]).resumable


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    put(tmp_path, "a.csv", b"")
    (tmp_path / "same.csv").symlink_to("a.csv")
    (tmp_path / "broken.csv").symlink_to("nowhere")
    (tmp_path / "folder").mkdir()
    for arguments, words in [
        ([], "no FILE"),
        ([""], "is empty"),
        (["missing.csv"], "no such file"),
        (["broken.csv"], "leads nowhere"),
        (["*.tsv"], "no file matches"),
        (["a.csv", "./a.csv"], "named twice"),
        (["a.csv", "a*.csv"], "named twice"),
        (["a.csv", "same.csv"], r"named twice \(as a.csv\)"),
        (["-", "a.csv"], "stands alone"),
        (["folder"], "without a manifest.json"),
        (["f*"], "is no glob"),
        (["a.csv", "folder"], "stands alone"),
    ]:
        with pytest.raises(UsageError, match=words):
            expand(arguments)
    with pytest.raises(Refused, match="cannot be read"):
        expand(["a.csv/b.csv"])
    with pytest.raises(Refused, match="cannot be opened"):
        open_input(tmp_path / "folder")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", b"")
    path.chmod(0)
    with pytest.raises(Refused, match="this user may not"):
        expand([str(path)])


def test_the_folder_of_a_dump(tmp_path: Path) -> None:
    put(tmp_path, "manifest.json", b"{}")
    assert expand([str(tmp_path)]).dump == tmp_path


# Files of a dump


@pytest.mark.parametrize(("compress", "name"), [("zstd", "a.zst"), ("gzip", "a.gz"), ("none", "a.csv")])
def test_what_is_written_is_read_again(tmp_path: Path, compress: Compress, name: str) -> None:
    path = tmp_path / name
    with io.FileIO(path, "w") as file:
        output = Output(file, compress)
        view = memoryview(ROWS)
        for start in range(0, len(ROWS), 70_000):
            output.write(view[start : start + 70_000])
        output.write(bytearray())
        output.finish()
    stored = path.read_bytes()
    assert (output.csv_bytes, output.bytes) == (len(ROWS), len(stored))
    assert output.sha256 == hashlib.sha256(stored).hexdigest()
    assert (len(stored) < len(ROWS)) is (compress != "none")
    assert read_all(path) == ROWS
    if compress == "gzip":
        assert zlib.decompress(stored, 31) == ROWS


def test_a_disk_that_takes_only_a_part(tmp_path: Path) -> None:
    class Narrow(io.FileIO):
        def write(self, data: Any) -> int:
            return super().write(memoryview(data)[:1000])

    with Narrow(tmp_path / "a", "w") as file:
        output = Output(file, "none")
        output.write(ROWS)
        output.finish()
    assert (tmp_path / "a").read_bytes() == ROWS
