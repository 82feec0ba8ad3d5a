#!/usr/bin/env bash
# Sees to the few things that pip cannot install: a C++ compiler, Python's venv module, and any `command:package`
# pairs that follow the name of the Python.
set -euo pipefail

python=${1:-python3}
missing=()
command -v g++ >/dev/null || missing+=(g++)
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
"$python" -c 'import sysconfig, os; assert os.path.exists(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null ||
  missing+=(python3-dev)
for pair in "${@:2}"; do
  command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  apt-get update -q && apt-get install -y -q "${missing[@]}"
else
  echo "gencv_fast: please install ${missing[*]} (Debian: sudo apt-get install ${missing[*]})" >&2
  exit 1
fi
