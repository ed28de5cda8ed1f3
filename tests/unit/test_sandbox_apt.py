"""Which of a machine's archives is Debian's own."""

from __future__ import annotations

import pytest

from hyperfill.sandbox import SandboxError, apt
from hyperfill.sandbox.apt import Target

DEBIAN = ("Debian", "Debian")
UNKNOWN = ("", "")


def best(*targets: Target) -> str:
    return max(targets, key=lambda target: target.score).uri


def test_origin_decides_when_it_is_known() -> None:
    vendor = Target("http://vendor.test/debian", "bookworm", "main", "Vendor", "Vendor")
    debian = Target("http://mirror.test/some/where", "bookworm", "main", *DEBIAN)
    assert vendor.score == 0
    assert best(vendor, debian) == debian.uri


def test_security_updates_are_not_the_archive() -> None:
    assert (
        Target("http://mirror.test/debian-security", "bookworm-security", "main", "Debian", "Debian-Security").score
        == 0
    )
    assert Target("http://mirror.test/debian-security", "bookworm-security", "main", *UNKNOWN).score == 0


def test_only_the_main_component() -> None:
    assert Target("http://mirror.test/debian", "bookworm", "contrib", *DEBIAN).score == 0


@pytest.mark.parametrize(
    "uri",
    [
        "http://mirror.test/debian",
        "https://mirror.test/debian/",
        "mirror+file:/etc/apt/mirrors/debian.list",
        "http://snapshot.test/archive/debian/20250520T000000Z",
    ],
)
def test_without_lists_the_address_decides(uri: str) -> None:
    debian = Target(uri, "bookworm", "main", *UNKNOWN)
    vendor = Target("https://packages.test/vendor/product/debian/", "bookworm", "main", *UNKNOWN)
    other = Target("https://packages.test/node_20.x", "nodistro", "main", *UNKNOWN)
    assert other.score == 0
    assert best(vendor, debian, other) == uri


def test_the_mirror_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERFILL_SANDBOX_MIRROR", "http://mirror.test/debian")
    assert apt.mirror() == "http://mirror.test/debian"


def test_a_machine_without_debian(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYPERFILL_SANDBOX_MIRROR", raising=False)
    monkeypatch.setattr(apt, "_targets", list)
    with pytest.raises(SandboxError, match="names no mirror") as caught:
        apt.mirror()
    assert "HYPERFILL_PG_BIN" in str(caught.value)


def test_only_fetch_options_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    dump = 'APT::Default-Release "stable";\nAcquire::http::Proxy "http://proxy.test:3128";\nDPkg::Post-Invoke:: "rm";\n'
    monkeypatch.setattr(apt, "_run", lambda *command: dump)
    text = apt.options()
    assert 'Acquire::http::Proxy "http://proxy.test:3128";' in text
    assert "Default-Release" not in text
    assert "Post-Invoke" not in text
