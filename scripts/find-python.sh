#!/bin/sh
# Prints a Python 3.11 with venv and ensurepip; says what is missing when there is none.
# PYTHON=/path/to/python3.11 names one that is not on the path.
set -u

check='import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 11))'
version='import sys; print("%d.%d" % sys.version_info[:2])'

if [ -n "${PYTHON:-}" ]; then
    candidates=$PYTHON
else
    candidates='python3.11
python3
python'
fi

seen=
incomplete=
IFS='
'
for candidate in $candidates; do
    command -v "$candidate" >/dev/null 2>&1 || continue
    if "$candidate" -I -c "$check" >/dev/null 2>&1; then
        command -v "$candidate"
        exit 0
    fi
    found=$("$candidate" -I -c "$version" 2>/dev/null) || continue
    if [ "$found" = 3.11 ]; then incomplete=$candidate; fi
    seen="$seen $candidate is $found;"
done

{
    if [ -n "$incomplete" ]; then
        echo "evoloom: '$incomplete' is Python 3.11, but its modules venv or ensurepip are missing."
        echo "On Debian and Ubuntu: apt-get install python3.11-venv"
    else
        echo "evoloom needs Python 3.11 and found none (looked for: $(echo $candidates | tr '\n' ' '))."
        if [ -n "$seen" ]; then echo "What is there:$seen it is 3.11 that the lock files are made for."; fi
        echo "Install it (on Debian 12: apt-get install python3.11 python3.11-venv), or name it:"
        echo "  make setup PYTHON=/path/to/python3.11"
    fi
} >&2
exit 1
