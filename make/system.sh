#!/usr/bin/env bash
# Installs the system packages whose programs are missing. Arguments: PROGRAM:PACKAGE ...; a program
# may be the path of a file.
set -euo pipefail

missing=()
for pair in "$@"; do
    program=${pair%%:*} package=${pair##*:}
    command -v "$program" >/dev/null 2>&1 || [ -x "/usr/sbin/$program" ] || [ -e "$program" ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

echo "These system packages are missing: ${missing[*]}"
if ! command -v apt-get >/dev/null 2>&1; then
    echo "No apt-get here; install them with your own package manager, then run make again." >&2
    exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || {
        echo "Run as root: apt-get install ${missing[*]}" >&2
        exit 1
    }
    as_root=(sudo)
fi
echo "Installing them with apt-get"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
# Installing Orthanc or slapd starts it as a service; only the program is wanted.
if printf '%s\n' "${missing[@]}" | grep -qx orthanc; then
    "${as_root[@]}" service orthanc stop >/dev/null 2>&1 || true
fi
if printf '%s\n' "${missing[@]}" | grep -qx slapd; then
    "${as_root[@]}" service slapd stop >/dev/null 2>&1 || true
fi
