#!/usr/bin/env bash
# How long a cluster of three hosts takes to notice a fault and to recover from it, in milliseconds: a cable pulled and
# plugged in, a process paused and resumed, one killed and started again. The hosts are network namespaces of this
# machine; needs root, iproute2 and python3. A question takes some milliseconds itself, so figures below 50 ms mean "at once".
#
#   benches/recovery.sh PROGRAM [FLAG...]     flags for each broker, such as --cluster-pong-max=1s

set -euo pipefail
[[ $# -gt 0 ]] || { sed -n '2,7s/^# \?//p' "$0" >&2; exit 2; }
program=$(realpath "$1")
shift
net="recovery$$"
dir=$(mktemp -d)
declare -A pids

clean() {
    for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
    for name in 1 2 3 switch; do ip netns delete "$net-$name" 2>/dev/null || true; done
    rm -rf "$dir"
}
trap clean EXIT

on() { local host=$1; shift; ip netns exec "$net-$host" "$@"; }

ip netns add "$net-switch"
on switch ip link add name br0 type bridge
on switch ip link set br0 up
for host in 1 2 3; do
    ip netns add "$net-$host"
    on switch ip link add "port$host" type veth peer name eth0 netns "$net-$host"
    on switch ip link set "port$host" master br0 up
    on "$host" ip link set lo up
    on "$host" ip address add "10.78.0.$host/24" dev eth0
    on "$host" ip link set eth0 up
done
echo "the secret of three hosts on one machine" >"$dir/secret"

start() {
    local host=$1
    ip netns exec "$net-$host" "$program" broker --open-to-everyone --node "h$host" --listen "ws://10.78.0.$host:4480" --cluster-name hosts \
        --cluster-listen "quic://10.78.0.$host:4434" \
        --cluster-seeds quic://10.78.0.1:4434,quic://10.78.0.2:4434,quic://10.78.0.3:4434 \
        --cluster-secret-file "$dir/secret" "${flags[@]}" >"$dir/log$host" 2>&1 &
    pids[$host]=$!
    disown
}
flags=("$@")

# Whether a host is linked with another one. The exit code says only whether it is with all.
linked() {
    local said
    said=$(on "$1" "$program" cluster status --json --url "ws://10.78.0.$1:4480" 2>/dev/null) || true
    python3 -c 'import json, sys
members = json.loads(sys.argv[1] or "{}").get("members", [])
sys.exit(not any(one["node"] == sys.argv[2] and one["state"] == "linked" for one in members))' "$said" "h$2"
}

now() { date +%s%3N; }

# Waits until a host is (or is not) linked with another one, and says how long after $began that was.
until_() {
    local what=$1 host=$2 other=$3 wanted=$4
    while if linked "$host" "$other"; then [[ $wanted = no ]]; else [[ $wanted = yes ]]; fi; do
        (($(now) - began < 120000)) || { echo "$what: not seen in two minutes" >&2; cat "$dir"/log* >&2; exit 1; }
    done
    printf '%-44s %6d ms\n' "$what" $(($(now) - began))
}

began=$(now)
for host in 1 2 3; do start "$host"; done
until_ "started: h1 is linked with h2" 1 2 yes
until_ "started: h1 is linked with h3" 1 3 yes
began=$(now); on switch ip link set port3 down
until_ "cable of h3 pulled: h1 has noticed" 1 3 no
began=$(now); on switch ip link set port3 up
until_ "plugged in: h1 is linked with h3" 1 3 yes
until_ "plugged in: h3 is linked with h2" 3 2 yes
began=$(now); kill -STOP "${pids[2]}"
until_ "h2 paused: h1 has noticed" 1 2 no
began=$(now); kill -CONT "${pids[2]}"
until_ "resumed: h1 is linked with h2" 1 2 yes
began=$(now); kill -KILL "${pids[2]}"
until_ "h2 killed: h1 has noticed" 1 2 no
began=$(now); start 2
until_ "started again: h1 is linked with h2" 1 2 yes
began=$(now); kill -TERM "${pids[2]}"
until_ "h2 stopped in good order: h1 has noticed" 1 2 no
