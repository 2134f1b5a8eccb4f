#!/usr/bin/env bash
# Runs a command beside a real API server of Kubernetes: `kube-apiserver` from Debian's source package, which is built
# once (about ten minutes of processor time) and kept, and etcd. DIALTONE_TEST_KUBERNETES is a kubeconfig that may do
# everything there. There are no nodes and no controllers.

set -euo pipefail

cache="${XDG_CACHE_HOME:-$HOME/.cache}/dialtone/kubernetes"
server="$cache/kube-apiserver"

build() {
    local sudo=() work source
    [[ $EUID -eq 0 ]] || sudo=(sudo -n)
    "${sudo[@]}" apt-get update -q
    "${sudo[@]}" apt-get install -qy --no-install-recommends golang-go etcd-server openssl dpkg-dev
    work="$(mktemp -d)"
    mkdir -p "$cache" "$work/lists/partial" "$work/cache/archives/partial" "$work/go/src/k8s.io"
    # The source packages of the same release, whatever the machine's own list says.
    . /etc/os-release
    echo "deb-src http://deb.debian.org/debian $VERSION_CODENAME main" >"$work/sources.list"
    (
        cd "$work"
        options=(-o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
            -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
        apt-get "${options[@]}" update -q
        apt-get "${options[@]}" source -q --download-only kubernetes
        mkdir source
        tar xf kubernetes_*.orig.tar.gz -C source --strip-components 1
        mv source go/src/k8s.io/kubernetes
        cd go/src/k8s.io/kubernetes
        export GOPATH="$work/go" GOCACHE="$work/gocache" GO111MODULE=off GOFLAGS=''
        # The description of the API is generated; it is not part of the source.
        described="$(grep -rlE --dereference-recursive --include='*.go' '^// \+k8s:openapi-gen=' vendor/k8s.io/ pkg/apis |
            xargs -n1 dirname | sort -u | grep -v '/testdata\|/test/\|/examples/\|sample-' |
            sed 's#^#k8s.io/kubernetes/#' | paste -sd,)"
        nice go build -o "$work/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
        nice "$work/openapi-gen" -O zz_generated.openapi -p k8s.io/kubernetes/pkg/generated/openapi \
            --go-header-file hack/boilerplate/boilerplate.generatego.txt --output-base "$work/go/src" \
            -i "$described" -r "$work/report"
        nice go build -ldflags '-s -w' -o "$server" k8s.io/kubernetes/cmd/kube-apiserver
    )
    rm -rf "$work"
}

[[ -x $server ]] || build >&2

folder="$(mktemp -d)"
etcd_pid='' server_pid=''
finish() {
    [[ -z $server_pid ]] || kill "$server_pid" 2>/dev/null || true
    [[ -z $etcd_pid ]] || kill "$etcd_pid" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$folder"
}
trap finish EXIT

read -r etcd_port peer_port port < <(python3 -c '
import socket
held = [socket.socket() for _ in range(3)]
for one in held:
    one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in held))')

etcd --data-dir "$folder/etcd" --listen-client-urls "http://127.0.0.1:$etcd_port" \
    --advertise-client-urls "http://127.0.0.1:$etcd_port" --listen-peer-urls "http://127.0.0.1:$peer_port" \
    --initial-advertise-peer-urls "http://127.0.0.1:$peer_port" \
    --initial-cluster "default=http://127.0.0.1:$peer_port" >"$folder/etcd.log" 2>&1 &
etcd_pid=$!

openssl genrsa -out "$folder/accounts.key" 2048 2>/dev/null
token="$(openssl rand -hex 16)"
echo "$token,admin,1,system:masters" >"$folder/tokens"
"$server" --etcd-servers "http://127.0.0.1:$etcd_port" --bind-address 127.0.0.1 --secure-port "$port" \
    --cert-dir "$folder/certs" --token-auth-file "$folder/tokens" --authorization-mode RBAC \
    --service-cluster-ip-range 10.0.0.0/24 --service-account-issuer https://kubernetes.test \
    --service-account-key-file "$folder/accounts.key" \
    --service-account-signing-key-file "$folder/accounts.key" \
    --disable-admission-plugins ServiceAccount >"$folder/server.log" 2>&1 &
server_pid=$!

cat >"$folder/config" <<CONFIG
apiVersion: v1
kind: Config
current-context: test
clusters: [{name: test, cluster: {server: "https://127.0.0.1:$port", insecure-skip-tls-verify: true}}]
users: [{name: test, user: {token: "$token"}}]
contexts: [{name: test, context: {cluster: test, user: test, namespace: default}}]
CONFIG

for _ in $(seq 600); do
    if curl -ksf -m 5 -H "Authorization: Bearer $token" "https://127.0.0.1:$port/readyz" >/dev/null; then
        break
    fi
    if ! kill -0 "$server_pid" 2>/dev/null; then
        echo "kube-apiserver has ended:" >&2
        tail -20 "$folder/server.log" >&2
        exit 1
    fi
    sleep 0.2
done

DIALTONE_TEST_KUBERNETES="$folder/config" "$@"
