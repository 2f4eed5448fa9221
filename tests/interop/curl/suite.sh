#!/bin/sh
# Drives a server with curl: the JSON gateway and the pages for machines over HTTP/1.1, and gRPC's port as
# HTTP/2 with prior knowledge finds it. ETCD_ENDPOINT says where the server is; the one argument is a
# folder for what comes. With the word `restart` after it, it is about a server that ends and comes back:
# when it prints `restart`, whoever runs it is to end the server kindly and start it anew.
#
# What etcd answers is written here as it says it, but for numbers that differ from server to server.
set -u
url="$ETCD_ENDPOINT"
folder="$1"
passed=0
failed=0
mkdir -p "$folder"

# An answer without what differs: headers and revisions, and the spaces of both kinds that etcd strews.
plain() {
    tr -d '\r' | sed -E 's/\xc2\xa0/ /g; s/, "/,"/g; s/"header":\{[^}]*\}/"header":H/g; s/_revision":"[0-9]+"/_revision":"N"/g'
}

verdict() { # NAME GOT EXPECTED
    if [ "$2" = "$3" ]; then
        passed=$((passed + 1))
        echo "ok     $1"
    else
        failed=$((failed + 1))
        printf 'FAILED %s:\n%s\n---- not ----\n%s\n' "$1" "$2" "$3"
    fi
}

told() { # SHOW CURL-WORD…: what curl fetched, and what else it is to show
    show="$1"
    shift
    curl -sS -m 20 -w "$show" "$@" 2>&1 | plain
}

says() { # NAME EXPECTED CURL-WORD…: status, type and body
    name="$1"
    expected="$2"
    shift 2
    verdict "$name" "$(told ' %{http_code} %{content_type}' "$@")" "$expected"
}

# NAME HEADER EXPECTED CURL-WORD…: a header of the answer
header() {
    name="$1"
    field="$2"
    expected="$3"
    shift 3
    got=$(curl -sS -m 20 -o "$folder/body" -D - "$@" 2>&1 | tr -d '\r' | sed -n "s/^$field: //Ip")
    verdict "$name" "$got" "$expected"
}

# Waits until the file holds the text; fails after twenty seconds.
eventually() { # FILE TEXT
    tries=0
    until grep -q "$2" "$1" 2>/dev/null; do
        tries=$((tries + 1))
        [ $tries -lt 200 ] || return 1
        sleep 0.1
    done
}

key() { printf 'interop/curl/%s' "$1" | base64; }

JSON=application/json
TEXT='text/plain; charset=utf-8'
key=$(key a)

restart() {
    curl -sS -o "$folder/put" "$url/v3/kv/put" -d "{\"key\":\"$key\",\"value\":\"MQ==\"}"
    curl -sSN "$url/v3/watch" -d "{\"create_request\":{\"key\":\"$key\"}}" >"$folder/watch" 2>&1 &
    watch=$!
    eventually "$folder/watch" created
    echo restart
    wait $watch
    got=$(curl -sS --retry 40 --retry-connrefused --retry-delay 1 -m 20 "$url/v3/kv/range" -d "{\"key\":\"$key\"}" 2>"$folder/errors" | plain)
    verdict "a server that ends lets go of a watch and is found again" "$got" \
        "{\"header\":H,\"kvs\":[{\"key\":\"$key\",\"create_revision\":\"N\",\"mod_revision\":\"N\",\"version\":\"1\",\"value\":\"MQ==\"}],\"count\":\"1\"}"
}

gateway() {
    says "a key is deleted" "{\"header\":H$1} 200 $JSON" "$url/v3/kv/deleterange" -d "{\"key\":\"$key\"}"
    says "a key is put" "{\"header\":H} 200 $JSON" "$url/v3/kv/put" -d "{\"key\":\"$key\",\"value\":\"MQ==\"}"
    pair="{\"key\":\"$key\",\"create_revision\":\"N\",\"mod_revision\":\"N\",\"version\":\"1\",\"value\":\"MQ==\"}"
    found="{\"header\":H,\"kvs\":[$pair],\"count\":\"1\"} 200 $JSON"
    range="{\"key\":\"$key\"}"
    says "a key is read" "$found" "$url/v3/kv/range" -d "$range"
    says "a body may come in chunks" "$found" -H 'Transfer-Encoding: chunked' "$url/v3/kv/range" -d "$range"
    says "an upgrade to HTTP/2 is not taken up" "$found" --http2 "$url/v3/kv/range" -d "$range"
    says "HTTP/1.0 will do" "$found" --http1.0 "$url/v3/kv/range" -d "$range"
    says "what follows the first value is not looked at" "$found" "$url/v3/kv/range" -d "$range trailing"
    says "unknown fields are passed over" "$found" "$url/v3/kv/range" -d "{\"key\":\"$key\",\"new\":[1]}"
    says "a transaction is one line" \
        "{\"header\":H,\"succeeded\":true,\"responses\":[{\"response_range\":{\"header\":H,\"kvs\":[$pair],\"count\":\"1\"}}]} 200 $JSON" \
        "$url/v3/kv/txn" -d "{\"compare\":[{\"key\":\"$key\",\"target\":\"VERSION\",\"version\":\"1\"}],\"success\":[{\"request_range\":$range}]}"
    header "answers of a call say where they come from" Grpc-Metadata-Content-Type application/grpc \
        "$url/v3/kv/range" -d "$range"
    verdict "who expects to be told to continue is, before the answer" \
        "$(curl -sSi -m 20 -H 'Expect: 100-continue' "$url/v3/kv/range" -d "$range" | tr -d '\r' | sed -n 's/^HTTP/HTTP/p' | tr '\n' ' ')" \
        "HTTP/1.1 100 Continue HTTP/1.1 200 OK "
    verdict "a connection serves many requests" \
        "$(curl -sS -m 20 -o "$folder/a" -w '%{num_connects} ' "$url/v3/kv/range" -d "$range" --next -sS -o "$folder/b" -w '%{num_connects}' "$url/version")" \
        "1 0"
}

errors() {
    says "a key must be given" "{\"code\":3,\"message\":\"etcdserver: key is not provided\"} 400 $JSON" \
        "$url/v3/kv/range" -d '{}'
    says "an empty body is an empty request" "{\"code\":3,\"message\":\"etcdserver: key is not provided\"} 400 $JSON" \
        "$url/v3/kv/range" -d ''
    says "the future is not known" \
        "{\"code\":11,\"message\":\"etcdserver: mvcc: required revision is a future revision\"} 400 $JSON" \
        "$url/v3/kv/range" -d "{\"key\":\"$key\",\"revision\":\"9000000000\"}"
    says "a lease must exist" "{\"code\":5,\"message\":\"etcdserver: requested lease not found\"} 404 $JSON" \
        "$url/v3/kv/put" -d "{\"key\":\"$key\",\"lease\":\"4711\"}"
    says "a body must be JSON" \
        "{\"code\":3,\"message\":\"invalid character 'b' looking for beginning of object key string\"} 400 $JSON" \
        "$url/v3/kv/range" -d '{bad'
    says "… to its end" "{\"code\":3,\"message\":\"unexpected EOF\"} 400 $JSON" "$url/v3/kv/range" -d '{"key":'
    says "… and an object" "{\"code\":3,\"message\":\"proto: syntax error (line 1:1): unexpected token [\"} 400 $JSON" \
        "$url/v3/kv/range" -d '[]'
    for verb in GET PUT DELETE PATCH FOO; do
        says "a call is a POST, not a $verb" "{\"code\":12,\"message\":\"Method Not Allowed\"} 501 $JSON" \
            -X $verb "$url/v3/kv/range" -d '{}'
    done
    says "a route must exist" "{\"code\":5,\"message\":\"Not Found\"} 404 $JSON" "$url/v3/nothing" -d '{}'
    for path in / /nothing /v2/keys /debug/pprof/ /v3x; do
        says "there is nothing at $path" "404 page not found
 404 $TEXT" "$url$path"
    done
    header "a path is made tidy" Location /version "$url//version"
    says "who asks for nothing is told so" " 200 " -X OPTIONS "$url/v3/kv/range"
    header "any page may ask" Access-Control-Allow-Origin '*' -H 'Origin: http://else.where' "$url/version"
}

pages() {
    says "it is well" "{\"health\":\"true\",\"reason\":\"\"} 200 $TEXT" "$url/health"
    says "it lives" "ok
 200 $TEXT" "$url/livez"
    # etcd tells of its checks in any order.
    verdict "it is ready" "$(curl -sS -m 20 "$url/readyz?verbose" | LC_ALL=C sort)" "[+]data_corruption ok
[+]linearizable_read ok
[+]non_learner ok
[+]serializable_read ok
ok"
    for page in health version livez; do
        says "/$page is for reading" "Method Not Allowed
 405 $TEXT" -X POST "$url/$page"
    done
    verdict "the version has three parts" \
        "$(curl -sS -m 20 "$url/version" | sed -E 's/:"[0-9.]+"/:V/g')" '{"etcdserver":V,"etcdcluster":V,"storage":V}'
    curl -sS -m 20 --compressed "$url/metrics" >"$folder/metrics"
    verdict "metrics have the names dashboards know" \
        "$(grep -c -E '^(etcd_server_has_leader|etcd_server_is_leader) 1$' "$folder/metrics")" 2
    header "… and their type" Content-Type 'text/plain; version=0.0.4; charset=utf-8; escaping=underscores' "$url/metrics"
}

watches() {
    curl -sSN -m 20 "$url/v3/watch" -d "{\"create_request\":{\"key\":\"$key\"}}" >"$folder/watch" 2>&1 &
    watch=$!
    eventually "$folder/watch" created
    curl -sS -m 20 -o "$folder/put" "$url/v3/kv/put" -d "{\"key\":\"$key\",\"value\":\"Mg==\"}"
    curl -sS -m 20 -o "$folder/put" "$url/v3/kv/deleterange" -d "{\"key\":\"$key\"}"
    eventually "$folder/watch" DELETE
    kill $watch
    wait $watch 2>"$folder/errors"
    verdict "a watch is a line a response, as they come" "$(plain <"$folder/watch")" \
        "{\"result\":{\"header\":H,\"created\":true}}
{\"result\":{\"header\":H,\"events\":[{\"kv\":{\"key\":\"$key\",\"create_revision\":\"N\",\"mod_revision\":\"N\",\"version\":\"2\",\"value\":\"Mg==\"}}]}}
{\"result\":{\"header\":H,\"events\":[{\"type\":\"DELETE\",\"kv\":{\"key\":\"$key\",\"mod_revision\":\"N\"}}]}}"
    curl -sSN -m 20 "$url/v3/maintenance/snapshot" -d '{}' >"$folder/snapshot"
    verdict "a snapshot is lines" "$(sed -n -E '1s/^\{"result":\{.*"blob":.*/ok/p' "$folder/snapshot" | cut -c1-80)" ok
}

# A gRPC message is a byte for its compression, four for its length, and itself.
http2() {
    h2=--http2-prior-knowledge
    for path in /version /health /metrics /v3/kv/range; do
        verdict "HTTP/2 with prior knowledge is for gRPC alone: $path" \
            "$(curl -sSi -m 20 $h2 "$url$path" | tr -d '\r' | tr '\n' ' ')" \
            'HTTP/2 415  content-type: application/grpc grpc-status: 3 grpc-message: invalid gRPC request content-type ""  '
    done
    printf '\0\0\0\0\0' >"$folder/empty"
    grpc() { # PATH CURL-WORD…
        path="$1"
        shift
        curl -sSi -m 20 $h2 -H 'content-type: application/grpc' -H 'te: trailers' "$@" "$url$path" | tr -d '\r' | tr '\n' ' '
    }
    grpc_head='HTTP/2 200  content-type: application/grpc'
    verdict "a call of gRPC is refused in its trailers" "$(grpc /etcdserverpb.KV/Range --data-binary "@$folder/empty")" \
        "$grpc_head grpc-status: 3 grpc-message: etcdserver: key is not provided  "
    verdict "an unknown method is unimplemented" "$(grpc /etcdserverpb.KV/Nothing -X POST)" \
        "$grpc_head grpc-status: 12 grpc-message: unknown method Nothing for service etcdserverpb.KV  "
    verdict "a deadline is kept" \
        "$(grpc /etcdserverpb.KV/Range -X POST -H 'grpc-timeout: 0m')" \
        "$grpc_head grpc-status: 4 grpc-message: context deadline exceeded  "
    verdict "a timeout must be one" \
        "$(grpc /etcdserverpb.KV/Range -X POST -H 'grpc-timeout: 1x')" \
        'HTTP/2 400  content-type: application/grpc grpc-status: 13 grpc-message: malformed grpc-timeout: transport: timeout unit is not recognized: "1x"  '
    verdict "gRPC's health is told" \
        "$(curl -sS -m 20 $h2 -H 'content-type: application/grpc' --data-binary "@$folder/empty" "$url/grpc.health.v1.Health/Check" | od -An -tx1 | tr -d ' \n')" \
        00000000020801
}

if [ "${2:-}" = restart ]; then
    restart
else
    curl -sS -m 20 -o "$folder/put" "$url/v3/kv/put" -d "{\"key\":\"$key\"}"
    gateway ',"deleted":"1"'
    errors
    pages
    watches
    http2
fi
echo "$passed passed, $failed failed"
[ $failed = 0 ]
