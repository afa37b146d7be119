#!/usr/bin/env bash
# Puts the peers into .cache beside this file and changes nothing elsewhere:
# polars and DuckDB by npm, pandas and Miller as Debian's packages, unpacked but
# not installed. Needs npm and apt-get.
set -euo pipefail
cd "$(dirname "$0")"
mkdir -p .cache/debian/partial
cd .cache

if ! cmp -s ../package.json installed.json; then
  npm='npm install --no-package-lock --no-audit --no-fund --loglevel=error'
  cp ../package.json .
  $npm
  # npm passes over polars' binary where that wants a newer Node.js than there
  # is; it runs on Node.js 20 when it is asked for by name.
  $npm --no-save "nodejs-polars-linux-$(node -p process.arch)-gnu@$(node -p "require('./node_modules/nodejs-polars/package.json').version")"
  cp package.json installed.json
fi

if [ ! -e debian/root ]; then
  # What is installed already is not fetched again, and used where it is.
  apt-get install -qqy --no-install-recommends --download-only -o Debug::NoLocking=1 \
    -o "Dir::Cache::archives=$PWD/debian" python3-pandas miller >/dev/null
  mkdir -p debian/new
  for deb in debian/*.deb; do
    [ -e "$deb" ] && dpkg-deb -x "$deb" debian/new
  done
  mv debian/new debian/root
fi
