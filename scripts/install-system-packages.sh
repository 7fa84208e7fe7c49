#!/bin/sh
# Installs the Debian packages that tests need, listed in requirements/debian-test.txt.
# Prints nothing and needs no rights when all are there (or none is listed).
set -eu
cd "$(dirname "$0")/.."

missing=
for package in $(sed 's/#.*//' requirements/debian-test.txt); do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || state=absent
    [ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "evoloom: the tests need these Debian packages (or what your system calls them):$missing" >&2
    exit 1
fi
as_root=
if [ "$(id -u)" != 0 ]; then
    if ! sudo -n true 2>/dev/null; then
        echo "evoloom: the tests need Debian packages; install them with:" >&2
        echo "  sudo apt-get install$missing" >&2
        exit 1
    fi
    as_root='sudo -n'
fi
echo "installing Debian packages the tests need:$missing"
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -q
$as_root apt-get install -q -y --no-install-recommends $missing
