#!/bin/sh
# setup.sh VENV LOCK: make the virtual environment, and as root the packages that the sandbox needs.
#
# A fresh machine may lack the venv module, mmdebstrap, or Python itself. As root on a machine with
# apt they are installed; otherwise this says what is missing and changes nothing.
set -eu

venv=$1
lock=$2
pythons='python3 python3.14 python3.13 python3.12 python3.11'

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }

can_install() { [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; }

updated=no
apt_install() {
    say "installing with apt: $*"
    if [ "$updated" = no ]; then
        # The package lists of a fresh image are empty or stale: installing without this fails.
        DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2
        updated=yes
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

# A python3 that can be started is not enough: version managers leave shims that only print an error.
find_python() {
    for candidate in ${PYTHON:-$pythons}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

# ensurepip is what Debian splits off into python3-venv; `import venv` alone works without it.
has_venv() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }

python=$(find_python) || python=
if [ -z "$python" ] && can_install; then
    apt_install python3 python3-venv || true
    python=$(find_python) || python=
fi
if [ -z "$python" ]; then
    die "Python 3.11 or newer is needed and none was found (looked for: ${PYTHON:-$pythons})." \
        "Install one, or name it: make setup PYTHON=/path/to/python3.12"
fi

if ! has_venv "$python"; then
    package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if can_install; then
        apt_install "$package" || apt_install python3-venv || true
    fi
    has_venv "$python" || die "$python has no venv module; on Debian it is in the package $package (apt-get install $package)."
fi

# The embedded servers come from Debian's packages; a server that is already there needs none of it.
if [ -z "${HYPERFILL_PG_BIN:-}" ]; then
    missing=
    command -v mmdebstrap >/dev/null 2>&1 || missing="$missing mmdebstrap"
    command -v gpgv >/dev/null 2>&1 || missing="$missing gpgv"
    [ -n "$(find /usr/share/keyrings -name 'debian-archive-keyring.*' 2>/dev/null)" ] ||
        missing="$missing debian-archive-keyring"
    # An ordinary user's servers run outside a chroot, and read the time zones of the machine.
    [ -e /usr/share/zoneinfo/UTC ] || missing="$missing tzdata"
    if [ -n "$missing" ]; then
        if can_install; then
            # shellcheck disable=SC2086
            apt_install $missing || say "could not install$missing: the sandbox needs it, the rest does not"
        else
            say "for the sandbox (demo and tests) still needed:$missing (as root: apt-get install$missing)," \
                "or HYPERFILL_PG_BIN, the bin directory of a PostgreSQL that has TimescaleDB"
        fi
    fi
fi

say "making $venv with $("$python" -V)"
# --clear: an environment of another Python, or half of one, must not survive.
"$python" -m venv --clear "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r "$lock"
# Neither dependencies nor a build environment: both were just installed, pinned by hash.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
say "ready: $venv/bin/hyperfill"
