#!/bin/sh
# Installs exactly what lock files list: install.sh VENV SOURCE LOCK...
#
# VENV is the environment to make or to bring up to date. SOURCE is vitalgate itself: a wheel, or the checkout, which is installed
# editable (its locks must then hold hatchling and editables). PYTHON names another interpreter, PIP another pip.
# The Makefile, CI and every page that installs use this script.
set -eu

fail() { echo "$*" >&2; exit 1; }

[ $# -ge 3 ] || fail "usage: $0 VENV SOURCE LOCK..."
venv=$1 source=$2
shift 2
for lock; do
  [ -r "$lock" ] || fail "cannot read the lock file $lock"
  set -- "$@" -r "$lock"
  shift
done

if [ -z "${PYTHON:-}" ]; then
  for PYTHON in /usr/bin/python3.11 /usr/local/bin/python3.11 python3.11 python3; do
    command -v "$PYTHON" >/dev/null && break
  done
fi
fits='import sys; sys.exit(sys.version_info[:2] != (3, 11))'
"$PYTHON" -c "$fits" 2>/dev/null \
  || fail "vitalgate needs Python 3.11 (found: $("$PYTHON" -V 2>/dev/null || echo none)): set PYTHON=/path/to/python3.11"
"$PYTHON" -c 'import ensurepip, venv' 2>/dev/null \
  || fail "$PYTHON has no venv: apt-get install python3.11-venv, or set PYTHON=/path/to/python3.11"
{ mkdir -p "$venv" && [ -w "$venv" ]; } 2>/dev/null || fail "cannot write to $venv: choose another directory (make: VENV=/path)"

if ! { "$venv/bin/python" -c "$fits" && "${PIP:-$venv/bin/pip}" --version; } >/dev/null 2>&1; then
  [ ! -e "$venv/pyvenv.cfg" ] || clear=--clear # half made, or of another Python
  "$PYTHON" -m venv ${clear:-} ${PIP:+--without-pip} "$venv" || fail "cannot make the environment $venv"
fi

pip() { "${PIP:-$venv/bin/pip}" --disable-pip-version-check --python "$venv/bin/python" "$@"; }

# The lock is complete, so nothing is resolved: a release that somebody publishes tomorrow changes nothing. Nothing is built from
# source either, which would fetch build tools that no lock pins.
pip install --quiet --no-compile --no-deps --require-hashes --only-binary :all: "$@"
if [ -d "$source" ]; then
  pip install --quiet --no-compile --no-deps --no-index --no-build-isolation --editable "$source"
else
  pip install --quiet --no-compile --no-deps --no-index "$source"
fi
pip check

# Byte code of everything but the packages' own tests, on all cores: pip would take twice as long.
"$venv/bin/python" -m compileall -q -j 0 -x '/tests?/' "$venv/lib"
