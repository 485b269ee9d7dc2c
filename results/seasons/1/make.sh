#!/usr/bin/env bash
# Season 1 on the miniature: says how long it will take, runs what is missing, publishes it, writes tables and page.
# Stop it whenever you like: the same command goes on.
#
#   results/seasons/1/make.sh [RUN_FOLDER] [SITE_FOLDER]
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
results="$(cd "$here/../.." && pwd)"
runs="${1:-$results/../runs/season-1}"
site="${2:-$results/../site}"
parts=(families nudity attacked)

for part in "${parts[@]}"; do
  zbench plan "$here/$part.toml" --out "$runs" | tail -n 1
done
for part in "${parts[@]}"; do
  zbench run "$here/$part.toml" --out "$runs"
done
zbench collect "$runs" "$results" --protocol zbench
zbench leaderboard "$results" --out "$site"
