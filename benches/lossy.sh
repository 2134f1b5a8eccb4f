#!/usr/bin/env bash
# Small requests beside a bulk transfer on one connection, over a path that delays and loses: QUIC and
# WebSocket in turn, between two network namespaces that this script makes and removes.
#
#   benches/lossy.sh [DIALTONE]       the program; by default target/release/dialtone
#
#   DELAYS="10 25"   milliseconds each way        LOSSES="0 1 2"   per cent each way
#   RATE=40          megabits a second            WAYS="up down"   which way the bulk goes
#   SECS=10          measured each                ROUNDS=2         each with a seed of its own
#   TCP=cubic        the kernel's congestion control for the WebSocket; ours for QUIC is Cubic too
#
# Needs root (or CAP_NET_ADMIN and CAP_SYS_ADMIN), /dev/net/tun, ip, openssl and python3.

set -euo pipefail

folder=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
program=$(realpath "${1:-target/release/dialtone}")
[[ -x $program ]] || { echo "no program $program: build it, or name it" >&2; exit 2; }
delays=${DELAYS:-10 25} losses=${LOSSES:-0 1 2} ways=${WAYS:-up down}
rate=${RATE:-40} secs=${SECS:-10} rounds=${ROUNDS:-2} tcp=${TCP:-cubic}

# Names of our own, so that two runs do not meet.
here=dt-$$-a there=dt-$$-b
work=$(mktemp -d)
pids=()

clean() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
    ip netns del "$here" 2>/dev/null || true
    ip netns del "$there" 2>/dev/null || true
    rm -rf "$work"
}
trap clean EXIT

if ! ip netns add "$here" 2>"$work/why"; then
    echo "cannot make a network namespace: $(cat "$work/why")" >&2
    echo "NOTHING WAS MEASURED: run as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN" >&2
    exit 1
fi
ip netns add "$there"

# Both ends are new for each path.
path=
lay() {
    [[ -z $path ]] || { kill "$path"; wait "$path" 2>/dev/null || true; }
    : >"$work/path"
    "$folder/lossy_path.py" "v$$a" "v$$b" --delay "$1" --loss "$2" --rate "$rate" --seed "$3" >"$work/path" 2>"$work/why" &
    path=$!
    pids+=("$path")
    await "$work/path" "$work/why" "the path is not there"
    ip link set "v$$a" netns "$here"
    ip link set "v$$b" netns "$there"
    ip -n "$here" addr add 10.99.0.1/32 peer 10.99.0.2 dev "v$$a"
    ip -n "$there" addr add 10.99.0.2/32 peer 10.99.0.1 dev "v$$b"
    ip -n "$here" link set "v$$a" up
    ip -n "$there" link set "v$$b" up
    ip -n "$here" route replace 10.99.0.2 dev "v$$a" src 10.99.0.1 congctl "$tcp"
    ip -n "$there" route replace 10.99.0.1 dev "v$$b" src 10.99.0.2 congctl "$tcp"
}

await() {
    for _ in {1..100}; do
        [[ -s $1 ]] && return
        sleep 0.1
    done
    echo "$3: $(cat "$2")" >&2
    echo "NOTHING WAS MEASURED" >&2
    exit 1
}

for space in "$here" "$there"; do ip -n "$space" link set lo up; done
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=netem \
    -addext subjectAltName=IP:10.99.0.1 -addext basicConstraints=critical,CA:FALSE \
    -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null

ip netns exec "$here" "$program" broker --json --monitor off --open-to-everyone \
    --tls-cert "$work/cert.pem" --tls-key "$work/key.pem" \
    --listen quic://0.0.0.0:4433 --listen ws://0.0.0.0:4480 --log-level warn >"$work/ready" 2>"$work/log" &
pids+=($!)
await "$work/ready" "$work/log" "the broker does not start"

printf '%-6s %-5s %-5s %-5s %10s %10s %10s %10s %12s\n' \
    delay loss bulk over 'p50 ms' 'p99 ms' 'p50 alone' 'p99 alone' 'bulk MB/s'
for delay in $delays; do
    for loss in $losses; do
        for way in $ways; do
            for ((round = 1; round <= rounds; round++)); do
                for over in quic ws; do
                    lay "$delay" "$loss" "$round"
                    [[ $over == quic ]] && url=quic://10.99.0.1:4433 || url=ws://10.99.0.1:4480
                    ip netns exec "$there" "$program" bench run bulk --direction "$way" --url "$url" \
                        --ca "$work/cert.pem" --warm 2 --secs "$secs" --json >"$work/report"
                    python3 - "$work/report" "$delay" "$loss" "$way" "$over" <<'PY'
import json, sys
report, labels = json.load(open(sys.argv[1])), sys.argv[2:]
beside, alone = report["latency"], report["unloaded"]
figures = [beside["p50_us"], beside["p99_us"], alone["p50_us"], alone["p99_us"]]
print("%-6s %-5s %-5s %-5s" % tuple(labels), *("%10.1f" % (us / 1e3) for us in figures),
      "%12.2f" % (report["bulk_bytes_per_sec"] / 1e6), flush=True)
PY
                done
            done
        done
    done
done
