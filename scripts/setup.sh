#!/usr/bin/env bash
# Makes .venv from requirements.lock. Safe to call again: with nothing changed it only says so.
#
#   scripts/setup.sh                    Python packages
#   scripts/setup.sh --quarto           ... and tries to find or install Quarto; without it still succeeds
#   scripts/setup.sh --require-quarto   ... and fails where Quarto cannot be had (for publishing)
#   scripts/setup.sh --into FOLDER      an environment made otherwise (conda, from environment.yml): only what
#                                       such a file cannot say, that is pyradiomics and Crossbook itself
#
# PYTHON names the interpreter .venv is made with (3.11; default: python3.11, else python3).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { echo "setup: $*"; }
fail() { echo "setup: $*" >&2; exit 1; }

quarto=no
env=.venv
while [ $# -gt 0 ]; do
    case "$1" in
        --quarto) quarto=try ;;
        --require-quarto) quarto=require ;;
        --into) shift; env="${1:?--into needs the folder of an environment}" ;;
        *) fail "unknown option $1; known are --quarto, --require-quarto and --into FOLDER" ;;
    esac
    shift
done

minor() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

make_env() {
    local python="${PYTHON:-}"
    if [ -z "$python" ]; then
        python=python3
        minor python3.11 >/dev/null && python=python3.11
    fi
    local version
    version="$(minor "$python")" || fail "no Python found as '$python'; install Python 3.11 or set PYTHON to its path"
    [ "$version" = 3.11 ] || fail "Crossbook needs Python 3.11 and '$python' is $version; install it or set PYTHON to its path"
    say "making .venv with Python $version"
    "$python" -m venv .venv || fail "'$python -m venv' failed; on Debian and Ubuntu install python3.11-venv"
}

# The one place for what pip cannot be told in a lock. pyradiomics 3.0.1 has no wheel for Python 3.11, and its
# setup.py imports numpy, which an isolated build does not offer: it is built against what the lock installed.
# (3.1.0 cannot be built at all: github.com/AIM-Harvard/pyradiomics issues 859 and 932.)
install_pyradiomics() {
    local pin
    pin="$(grep '^pyradiomics==' requirements.lock)" || fail "requirements.lock has no pyradiomics; run 'make lock'"
    if "$env/bin/python" -c "import importlib.metadata as m, sys; sys.exit(m.version('pyradiomics') != '${pin#*==}')" 2>/dev/null; then
        return
    fi
    [ -n "${CC:-}" ] || command -v cc >/dev/null || command -v gcc >/dev/null \
        || fail "pyradiomics is compiled here and there is no C compiler; install gcc (Debian: apt install gcc python3.11-dev)"
    say "building $pin"
    pip install --no-build-isolation --no-deps "$pin"
}

pip() { "$env/bin/python" -m pip --disable-pip-version-check -qq "$@"; }

# What the environment is made of: if none of this has changed since the last whole set-up, there is nothing to do.
made_of() {
    "$env/bin/python" - "$PWD" <<'PY'
import hashlib, pathlib, sys
names = ("requirements.lock", "pyproject.toml", "scripts/setup.sh")
content = b"".join(pathlib.Path(name).read_bytes() for name in names)
print(hashlib.sha256(content + sys.argv[1].encode() + sys.version.encode()).hexdigest())
PY
}

install_packages() {
    local stamp="$env/.crossbook-setup" key
    key="$(made_of)" || fail "$env/bin/python does not run; remove $env and call this again"
    if [ "$(cat "$stamp" 2>/dev/null)" = "$key" ]; then
        say "$env is up to date"
        return
    fi
    rm -f "$stamp"
    if [ "$env" = .venv ]; then
        say "installing $(grep -c '==' requirements.lock) packages from requirements.lock (minutes the first time)"
        local lock
        lock="$(mktemp)"
        grep -v '^pyradiomics==' requirements.lock >"$lock"
        pip install -r "$lock" || { rm -f "$lock"; fail "pip could not install requirements.lock; its message is above"; }
        rm -f "$lock"
    fi
    install_pyradiomics
    say "installing Crossbook, editable"
    pip install --no-build-isolation --no-deps -e .
    "$env/bin/python" -m pip check >/dev/null || { "$env/bin/python" -m pip check || true; fail "the packages do not fit together, see above"; }
    echo "$key" >"$stamp"
    say "$env is ready"
}

# Quarto is no Python package: PyPI's quarto-cli downloads a program while it is built. It gets a folder of its own
# inside the environment, so that a failure, or what it declares to need, never touches the packages.
find_quarto() {
    local found
    found="$(PATH="$PWD/$env/bin:$PATH" command -v quarto)" && "$found" --version 2>/dev/null
}

install_quarto() {
    local version tried="$env/.crossbook-no-quarto"
    if version="$(find_quarto)"; then
        say "Quarto $version found"
        return 0
    fi
    if [ "$quarto" = try ] && [ -n "$(find "$tried" -mmin -1440 2>/dev/null)" ]; then
        say "no Quarto (tried within the last day; 'make quarto' tries again)"
        return 0
    fi
    say "no Quarto on PATH; trying PyPI's quarto-cli, at most two minutes"
    if "$env/bin/python" -m venv --without-pip "$env/quarto" \
        && limit 120 "$env/bin/python" -m pip --python "$env/quarto/bin/python" install -qq --no-deps quarto-cli >/dev/null 2>&1 \
        && ln -sf ../quarto/bin/quarto "$env/bin/quarto" \
        && version="$(find_quarto)"; then
        rm -f "$tried"
        say "Quarto $version installed in $env/quarto"
        return 0
    fi
    rm -rf "$env/quarto" "$env/bin/quarto"
    touch "$tried"
    local message="Quarto could not be installed, so the book will be a preview made by nbconvert; notebooks, papermill and Snakemake do not need it. Get it from https://quarto.org/docs/download or conda-forge (package quarto)."
    if [ "$quarto" = require ]; then fail "$message"; fi
    say "$message"
}

limit() {
    if command -v timeout >/dev/null; then timeout "$@"; else shift; "$@"; fi
}

if [ "$env" = .venv ]; then
    if [ -x .venv/bin/python ]; then
        version="$(minor .venv/bin/python)" || fail ".venv/bin/python does not run; remove .venv and call this again"
        [ "$version" = 3.11 ] || fail "Crossbook needs Python 3.11 and .venv holds $version; remove .venv and call this again"
    else
        make_env
    fi
else
    version="$(minor "$env/bin/python")" || fail "no Python found in $env/bin"
    [ "$version" = 3.11 ] || fail "Crossbook needs Python 3.11 and $env holds $version"
fi
install_packages
if [ "$quarto" != no ]; then install_quarto; fi
