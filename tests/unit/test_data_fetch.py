"""Downloads from a server on this machine: resumed, verified, and nothing wrong under the final name."""

import gzip
import hashlib
import http.server
import threading

import pytest

from bioplaus import registry
from bioplaus.data.fetch import fetch, verify
from bioplaus.data.files import Archive, Member
from bioplaus.errors import DataError, PartError

CONTENT = bytes(range(256)) * 4000
PACKED = gzip.compress(CONTENT, 0, mtime=0)


class Server(http.server.ThreadingHTTPServer):
    """Serves ``body`` under every path; may refuse ranges, or end after some bytes."""

    body, ranges, ends_after = PACKED, True, None
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and server.ranges else 0
        if self.path.startswith("/gone"):
            self.send_error(404)
        elif start and start >= len(server.body):
            self.send_error(416)
        else:
            body = server.body[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: server.ends_after])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def bits(server, monkeypatch):
    """A data set of one file, registered for this test."""
    monkeypatch.setenv("no_proxy", "*")
    checksum = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    url = f"http://127.0.0.1:{server.server_port}/a.bin.gz"

    class Bits:
        files = (Archive("a.bin.gz", len(PACKED), url, (Member("a.bin", len(CONTENT), checksum),)),)

    monkeypatch.setitem(registry._added, ("dataset", "bits"), Bits)
    return Bits


def test_a_file_is_fetched_once(bits, server, tmp_path):
    seen = []
    target = tmp_path / "bits" / "a.bin.gz"
    assert verify("bits", tmp_path)[0][1].startswith("data set 'bits': a.bin.gz not found")
    assert fetch("bits", tmp_path, lambda *state: seen.append(state)) == [target]
    assert target.read_bytes() == PACKED and verify("bits", tmp_path) == [("a.bin.gz", "ok")]
    assert seen[-1] == ("a.bin.gz", len(PACKED), len(PACKED))
    assert sorted(done for _, done, _ in seen) == [done for _, done, _ in seen]
    assert fetch("bits", tmp_path) == [] and server.asked == [None]
    assert [path.name for path in (tmp_path / "bits").iterdir()] == ["a.bin.gz"]


def test_a_download_broken_off_goes_on_where_it_stopped(bits, server, tmp_path):
    server.ends_after = 300_000
    with pytest.raises(DataError, match=r"download failed \(connection ended after 300000 of .*Run again"):
        fetch("bits", tmp_path)
    assert not (tmp_path / "bits" / "a.bin.gz").exists()
    assert (tmp_path / "bits" / "a.bin.gz.part").read_bytes() == PACKED[:300_000]
    server.ends_after = None
    fetch("bits", tmp_path)
    assert server.asked == [None, "bytes=300000-"]
    assert (tmp_path / "bits" / "a.bin.gz").read_bytes() == PACKED


def test_a_server_that_cannot_resume_sends_all_again(bits, server, tmp_path):
    (tmp_path / "bits").mkdir()
    (tmp_path / "bits" / "a.bin.gz.part").write_bytes(PACKED[:1000])
    server.ranges = False
    seen = []
    fetch("bits", tmp_path, lambda *state: seen.append(state))
    assert seen[-1] == ("a.bin.gz", len(PACKED), len(PACKED))
    assert (tmp_path / "bits" / "a.bin.gz").read_bytes() == PACKED


def test_a_part_that_is_complete_needs_no_more(bits, server, tmp_path):
    (tmp_path / "bits").mkdir()
    (tmp_path / "bits" / "a.bin.gz.part").write_bytes(PACKED)
    fetch("bits", tmp_path)
    assert (tmp_path / "bits" / "a.bin.gz").read_bytes() == PACKED


@pytest.mark.parametrize(
    "body",
    [gzip.compress(CONTENT[::-1]), gzip.compress(CONTENT[:-1]), b"<html>moved</html>", b""],
    ids=["other", "truncated", "page", "empty"],
)
def test_the_wrong_file_leaves_nothing(bits, server, tmp_path, body):
    server.body = body
    with pytest.raises(DataError, match="not the published file, and not kept") as caught:
        fetch("bits", tmp_path)
    assert "\n" not in str(caught.value) and "by hand" in str(caught.value)
    assert list((tmp_path / "bits").iterdir()) == []


def test_a_part_of_another_file_is_noticed(bits, tmp_path):
    (tmp_path / "bits").mkdir()
    (tmp_path / "bits" / "a.bin.gz.part").write_bytes(b"x" * 1000)
    with pytest.raises(DataError, match="not kept"):
        fetch("bits", tmp_path)
    assert fetch("bits", tmp_path)


def test_a_damaged_file_is_never_overwritten(bits, server, tmp_path):
    (tmp_path / "a.bin.gz").write_bytes(PACKED[:-1000])
    with pytest.raises(DataError, match="Remove it and run: bioplaus data fetch bits"):
        fetch("bits", tmp_path)
    assert server.asked == [] and "cut short" in verify("bits", tmp_path)[0][1]


def test_without_a_connection_the_file_and_its_place_are_named(bits, server, tmp_path):
    (archive,) = bits.files
    for url in ("http://127.0.0.1:1/a.bin.gz", archive.url.replace("a.bin.gz", "gone")):
        bits.files = (Archive(archive.name, archive.size, url, archive.members),)
        with pytest.raises(DataError) as caught:
            fetch("bits", tmp_path)
        text = str(caught.value)
        assert text.startswith(f"{url}: download failed") and "\n" not in text
        assert f"Put a.bin.gz ({len(PACKED)} bytes) into {tmp_path / 'bits'} by hand" in text


def test_digits_need_no_files(tmp_path):
    assert fetch("digits", tmp_path) == [] and verify("digits", tmp_path) == []
    with pytest.raises(PartError, match="no data set named 'digitz'"):
        fetch("digitz", tmp_path)
