#!/usr/bin/env bash
# Load on loopback: starts the sample service on a fresh data folder and prints requests per second and latency of /v1/chat at
# 1, 8 and 64 connections, the time from start to ready, and resident memory. Needs wrk and curl (both are Debian packages).
#
#   tests/load/chat.sh [SECONDS]     seconds per measurement, 10 unless told
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-10}
for program in wrk curl; do
  command -v "$program" >/dev/null || { echo "$program is not installed: apt-get install $program" >&2; exit 2; }
done
cargo build --release --bin yingda
binary="${CARGO_TARGET_DIR:-target}/release/yingda"
data=$(mktemp -d)
port=18080
start() {
  "$binary" serve --sample --open --listen "127.0.0.1:$port" --data "$data" >"$data/out" 2>"$data/log" &
  service=$!
  until curl -sf "http://127.0.0.1:$port/readyz" >/dev/null; do
    kill -0 "$service" || { cat "$data/out" "$data/log" >&2; exit 1; }
    sleep 0.01
  done
}
stop() { kill "$service" 2>/dev/null || true; wait "$service" 2>/dev/null || true; }
trap 'stop; rm -rf "$data"' EXIT
milliseconds() { date +%s%3N; }

before=$(milliseconds); start; echo "first start, filling the store: ready after $(($(milliseconds) - before)) ms"
stop
before=$(milliseconds); start; echo "start on a full store: ready after $(($(milliseconds) - before)) ms"
echo "resident before load: $(awk '/VmRSS/ {print int($2 / 1024)}' "/proc/$service/status") MiB"
for connections in 1 8 64; do
  threads=$((connections < 2 ? 1 : 2))
  echo "-- $connections connections"
  wrk -t "$threads" -c "$connections" -d "${seconds}s" --latency -s tests/load/chat.lua "http://127.0.0.1:$port" |
    grep -E "50%|99%|Requests/sec|Non-2xx|Socket errors" || true
done
echo "resident after load: $(awk '/VmRSS/ {print int($2 / 1024)}' "/proc/$service/status") MiB"
