"""Files of data sets: found in every form they come in, and refused in one line when they are others."""

import gzip
import hashlib
import io
import tarfile
import zipfile

import pytest

from bioplaus.data import files
from bioplaus.data.files import Archive, Member
from bioplaus.errors import DataError

CONTENT = {"bits/a.bin": b"a" * 4000, "bits/b.bin": bytes(range(250)) * 4}


def member(name, data, kind="sha256"):
    return Member(name, len(data), f"{kind}:{hashlib.new(kind, data).hexdigest()}")


MEMBERS = tuple(member(name, data) for name, data in CONTENT.items())
TAR = Archive("bits.tar.gz", 123, "http://host/bits.tar.gz", MEMBERS)
GZ = Archive("a.bin.gz", 45, "http://host/a.bin.gz", (member("a.bin", CONTENT["bits/a.bin"], "md5"),))
PLAIN = Archive("a.mat", 4000, "http://host/a.mat", (member("a.mat", CONTENT["bits/a.bin"]),))


def write_tar(path, content, prefix=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, data in content.items():
            info = tarfile.TarInfo(prefix + name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def read(archive, folder):
    return dict(files.read("bits", [archive], folder))


@pytest.mark.parametrize("folder", ["", "bits"])
@pytest.mark.parametrize("prefix", ["", "./"])
def test_a_tar_is_read_member_by_member_wherever_it_lies(tmp_path, folder, prefix):
    extra = {"bits/readme": b"not wanted", **CONTENT, "../../outside": b"never written"}
    write_tar(tmp_path / folder / "bits.tar.gz", extra, prefix)
    before = sorted(tmp_path.rglob("*"))
    assert read(TAR, tmp_path) == CONTENT
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("folder", ["bits", ".", "bits/bits"])
def test_unpacked_members_do_as_well(tmp_path, folder):
    for name, data in CONTENT.items():
        path = tmp_path / folder / name.split("/")[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    assert read(TAR, tmp_path) == CONTENT


def test_gz_and_plain_files(tmp_path):
    (tmp_path / "a.bin.gz").write_bytes(gzip.compress(CONTENT["bits/a.bin"], 1))
    (tmp_path / "a.mat").write_bytes(CONTENT["bits/a.bin"])
    assert read(GZ, tmp_path) == {"a.bin": CONTENT["bits/a.bin"]}
    assert read(PLAIN, tmp_path) == {"a.mat": CONTENT["bits/a.bin"]}


def refusal(archive, folder):
    with pytest.raises(DataError) as caught:
        read(archive, folder)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_missing_file_says_which_to_put_where(tmp_path):
    text = refusal(TAR, tmp_path)
    for fact in ("bits.tar.gz", "123 bytes", "http://host/bits.tar.gz", str(tmp_path / "bits"), "data fetch bits"):
        assert fact in text


def test_without_a_data_directory_the_way_to_name_one_is_told():
    text = refusal(TAR, None)
    assert "--data-dir" in text and "BIOPLAUS_DATA" in text and "bits.tar.gz" in text


def test_an_altered_member_is_refused_with_both_checksums(tmp_path):
    altered = b"b" + CONTENT["bits/a.bin"][1:]
    write_tar(tmp_path / "bits.tar.gz", CONTENT | {"bits/a.bin": altered})
    text = refusal(TAR, tmp_path)
    assert "bits.tar.gz: bits/a.bin: altered" in text
    assert hashlib.sha256(altered).hexdigest() in text and MEMBERS[0].checksum.split(":")[1] in text


@pytest.mark.parametrize(("data", "found"), [(b"a" * 3999, "3999"), (b"a" * 4001, "more than 4000")])
def test_a_member_of_another_size_is_refused(tmp_path, data, found):
    (tmp_path / "a.bin.gz").write_bytes(gzip.compress(data))
    assert f"{found} bytes found, 4000 expected" in refusal(GZ, tmp_path)
    (tmp_path / "a.bin").write_bytes(data)
    assert f"{found} bytes found, 4000 expected" in refusal(GZ, tmp_path)


def test_a_member_far_too_large_is_not_even_read(tmp_path):
    write_tar(tmp_path / "bits.tar.gz", CONTENT | {"bits/a.bin": bytes(3_000_000)})
    assert "3000000 bytes found, 4000 expected" in refusal(TAR, tmp_path)


def test_a_bomb_in_a_gz_is_read_no_further_than_its_published_size(tmp_path):
    (tmp_path / "a.bin.gz").write_bytes(gzip.compress(bytes(50_000_000)))
    assert "more than 4000 bytes found" in refusal(GZ, tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_a_truncated_archive_is_refused(tmp_path, share):
    write_tar(tmp_path / "bits.tar.gz", CONTENT)
    for archive, packed in ((TAR, (tmp_path / "bits.tar.gz").read_bytes()), (GZ, gzip.compress(CONTENT["bits/a.bin"]))):
        (tmp_path / archive.name).write_bytes(packed[: int(share * len(packed))])
        text = refusal(archive, tmp_path)
        assert str(tmp_path / archive.name) in text and "data fetch bits" in text


def test_links_and_folders_under_a_members_name_are_not_followed(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(CONTENT["bits/a.bin"])
    with tarfile.open(tmp_path / "bits.tar.gz", "w:gz") as tar:
        link = tarfile.TarInfo("bits/a.bin")
        link.type, link.linkname = tarfile.SYMTYPE, str(secret)
        tar.addfile(link)
    assert "bits/a.bin, bits/b.bin not inside" in refusal(TAR, tmp_path)


def test_a_zip_in_the_place_of_a_tar_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bits.tar.gz", "w") as archive:
        archive.writestr("bits/a.bin", CONTENT["bits/a.bin"])
    assert "damaged" in refusal(TAR, tmp_path)


def test_the_data_directory_is_the_one_given_or_the_one_in_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("BIOPLAUS_DATA", raising=False)
    assert files.directory(None) is None
    monkeypatch.setenv("BIOPLAUS_DATA", str(tmp_path))
    assert files.directory(None) == tmp_path
    assert files.directory(tmp_path / "given") == tmp_path / "given"
