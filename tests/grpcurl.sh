#!/usr/bin/env bash
# What a stranger sees with grpcurl and nothing else: reflection, comments, calls, streams, errors
# with their details, health. Starts `wagate sandbox --no-demo` itself, on free ports and in a folder
# of its own, unless ENDPOINT (host:port) and API_KEY name a server that runs.
#
# WAGATE is the program (default target/debug/wagate), GRPCURL is grpcurl.
set -euo pipefail
cd "$(dirname "$0")/.."

WAGATE="${WAGATE:-target/debug/wagate}"
GRPCURL="${GRPCURL:-grpcurl}"
work=$(mktemp -d)
server=""

finish() {
  local status=$?
  if [ -n "$server" ]; then
    kill -TERM "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  if [ "$status" -ne 0 ] && [ -s "$work/server.log" ]; then
    printf -- '-- the end of what the server printed (keys left out):\n' >&2
    tail -n 40 "$work/server.log" | sed -E 's/wg_[0-9a-f]{16}_[A-Za-z0-9_-]+/KEY/g' >&2
  fi
  rm -rf "$work"
  exit "$status"
}
trap finish EXIT

fail() { printf '!! %s\n' "$*" >&2; exit 1; }

# A port that nobody listens on, below those that the system gives to clients.
free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 12000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
  done
}

# Health needs no key, but reflection does: so by a file.
cat >"$work/health.proto" <<'P'
syntax = "proto3";
package grpc.health.v1;
service Health { rpc Check(HealthCheckRequest) returns (HealthCheckResponse); }
message HealthCheckRequest { string service = 1; }
message HealthCheckResponse {
  enum ServingStatus { UNKNOWN = 0; SERVING = 1; NOT_SERVING = 2; SERVICE_UNKNOWN = 3; }
  ServingStatus status = 1;
}
P

healthy() {
  "$GRPCURL" -plaintext -connect-timeout 2 -max-time 5 -import-path "$work" -proto health.proto \
    "$ENDPOINT" grpc.health.v1.Health/Check 2>/dev/null | grep -q '"SERVING"'
}

start() {
  local port began=$SECONDS
  port=$(free_port)
  ENDPOINT="127.0.0.1:$port"
  "$WAGATE" sandbox --no-demo --listen "$ENDPOINT" --network-listen 127.0.0.1:0 \
    --data-dir "$work/data" >"$work/server.log" 2>&1 </dev/null &
  server=$!
  until healthy; do
    kill -0 "$server" 2>/dev/null || fail "the server did not start"
    [ $((SECONDS - began)) -lt 60 ] || fail "the server is not healthy after 60 s"
  done
  # Printed once, on the first start.
  API_KEY=$(grep -oE 'wg_[0-9a-f]{16}_[A-Za-z0-9_-]+' "$work/server.log" | head -n1 || true)
  [ -n "$API_KEY" ] || fail "the server printed no API key"
}

# call ARGUMENTS: grpcurl with the key, or for the call itself (not for reflection) the one in
# OTHER_KEY; what it prints is in $answer, its exit status in $status.
call() {
  status=0
  answer=$("$GRPCURL" -plaintext -max-time 20 -reflect-header "authorization: Bearer $API_KEY" \
    -rpc-header "authorization: Bearer ${OTHER_KEY:-$API_KEY}" "$@" 2>&1) || status=$?
}

good() { [ "$status" -eq 0 ] || fail "$1: exit status $status: $answer"; }
bad() { [ "$status" -ne 0 ] || fail "$1: was taken: $answer"; }
shows() { grep -qE -- "$1" <<<"$answer" || fail "$2: no \"$1\" in: $answer"; }
lacks() { ! grep -qiE -- "$1" <<<"$answer" || fail "$2: \"$1\" in: $answer"; }
done_with() { printf '   %s\n' "$1"; }

if [ -z "${ENDPOINT:-}" ]; then start; fi
: "${API_KEY:?goes with ENDPOINT}"

call "$ENDPOINT" list
good list
for service in wagate.v1.InstanceService wagate.v1.EventService wagate.v1.MessageService wagate.v1.MediaService \
  wagate.v1.ContactService wagate.v1.GroupService wagate.v1.CallService wagate.v1.PaymentService wagate.v1.QueueService \
  wagate.v1.ApiKeyService grpc.health.v1.Health; do
  shows "^${service//./\\.}\$" list
done
done_with "lists every service"

call "$ENDPOINT" describe wagate.v1.EventService
good "describe a service"
shows 'rpc Subscribe \( \.wagate\.v1\.SubscribeRequest \) returns \( stream \.wagate\.v1\.SubscribeResponse \)' "describe a service"
shows '// Streams events' "describe a service"
call "$ENDPOINT" describe wagate.v1.Event
good "describe a message"
shows '// UUID, the same at every delivery' "describe a message"
done_with "describes services and messages with their comments"

# The older reflection, which older tools speak: by a file, because grpcurl itself takes the newer one.
cat >"$work/v1alpha.proto" <<'P'
syntax = "proto3";
package grpc.reflection.v1alpha;
service ServerReflection {
  rpc ServerReflectionInfo(stream ServerReflectionRequest) returns (stream ServerReflectionResponse);
}
message ServerReflectionRequest { oneof message_request { string list_services = 7; } }
message ServerReflectionResponse { oneof message_response { ListServiceResponse list_services_response = 6; } }
message ListServiceResponse { repeated ServiceResponse service = 1; }
message ServiceResponse { string name = 1; }
P
call -import-path "$work" -proto v1alpha.proto -d '{"list_services": "*"}' "$ENDPOINT" \
  grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo
good "reflection v1alpha"
shows '"wagate\.v1\.EventService"' "reflection v1alpha"
done_with "speaks reflection v1alpha too"

call -d '{"name": "from-grpcurl", "request_id": "grpcurl-1"}' "$ENDPOINT" wagate.v1.InstanceService/CreateInstance
good "create an instance"
shows '"name": *"from-grpcurl"' "create an instance"
shows '"state": *"INSTANCE_STATE_UNPAIRED"' "create an instance"
first="$answer"
call -d '{"name": "from-grpcurl", "request_id": "grpcurl-1"}' "$ENDPOINT" wagate.v1.InstanceService/CreateInstance
good "repeat a request"
[ "$(grep '"id"' <<<"$first")" = "$(grep '"id"' <<<"$answer")" ] || fail "a repeated request made another instance: $answer"
call -d '{"instance": "from-grpcurl"}' "$ENDPOINT" wagate.v1.InstanceService/GetInstance
good "read an instance"
call "$ENDPOINT" wagate.v1.InstanceService/ListInstances
good "list instances"
shows '"name": *"from-grpcurl"' "list instances"
done_with "creates an instance, once"

# Nothing ends this stream but our own limit, so grpcurl reports that; the first frame comes at once.
call -max-time 3 -d '{}' "$ENDPOINT" wagate.v1.EventService/Subscribe
bad "an endless stream"
shows '"opened": *\{' "Subscribe with {}"
shows '"logEpoch": *' "Subscribe with {}"
shows 'DeadlineExceeded' "Subscribe with {}"
call -d '{"position": "START_POSITION_EARLIEST", "stop_when_caught_up": true}' "$ENDPOINT" wagate.v1.EventService/Subscribe
good "Subscribe until caught up"
shows '"opened": *\{' "Subscribe until caught up"
shows '"type": *"instance\.created"' "Subscribe until caught up"
cursor=$(grep -oE '"cursor": *"[^"]+"' <<<"$answer" | tail -n1 | cut -d'"' -f4)
[ -n "$cursor" ] || fail "no cursor in: $answer"
call -d "{\"after_cursor\": \"$cursor\", \"stop_when_caught_up\": true}" "$ENDPOINT" wagate.v1.EventService/Subscribe
good "resume by cursor"
lacks '"instance\.created"' "resume by cursor"
done_with "streams events, to the end and from a cursor"

call -d '{"page_size": 10}' "$ENDPOINT" wagate.v1.EventService/ListEvents
good "list events"
shows '"nextCursor": *' "list events"
call -d '{}' "$ENDPOINT" wagate.v1.EventService/GetEventLogInfo
good "event log info"
shows '"headCursor": *' "event log info"
shows '"retentionAge": *' "event log info"
done_with "tells where the log begins and ends"

# refused NAME CODE REASON ARGUMENTS: fails with this code and, in its details, this reason.
refused() {
  local name="$1" code="$2" reason="$3"
  shift 3
  call "$@"
  bad "$name"
  shows "Code: $code" "$name"
  shows "type\.googleapis\.com/google\.rpc\.ErrorInfo" "$name"
  shows "\"reason\": *\"$reason\"" "$name"
  shows '"domain": *"wagate"' "$name"
  lacks '@error|@value' "$name"
}
refused "an unknown instance" NotFound INSTANCE_NOT_FOUND \
  -d '{"instance": "nobody"}' "$ENDPOINT" wagate.v1.InstanceService/GetInstance
refused "a taken name" AlreadyExists INSTANCE_NAME_TAKEN \
  -d '{"name": "from-grpcurl"}' "$ENDPOINT" wagate.v1.InstanceService/CreateInstance
refused "a bad name" InvalidArgument FIELD_INVALID \
  -d '{"name": "Not A Name"}' "$ENDPOINT" wagate.v1.InstanceService/CreateInstance
shows 'google\.rpc\.BadRequest' "a bad name"
shows '"field": *"name"' "a bad name"
refused "a bad cursor" InvalidArgument CURSOR_INVALID \
  -d '{"after_cursor": "nonsense"}' "$ENDPOINT" wagate.v1.EventService/Subscribe
refused "an unpaired instance" FailedPrecondition INSTANCE_NOT_PAIRED \
  -d '{"instance": "from-grpcurl", "recipient": "15550001111", "text": {"text": "hi"}}' \
  "$ENDPOINT" wagate.v1.MessageService/SendMessage
refused "no group" InvalidArgument GROUP_ID_INVALID \
  -d '{"instance": "from-grpcurl", "group": "15550001111"}' "$ENDPOINT" wagate.v1.GroupService/GetGroup
shows '"field": *"group"' "no group"
OTHER_KEY="wg_0000000000000000_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" refused "a wrong key" \
  Unauthenticated API_KEY_INVALID -d '{}' "$ENDPOINT" wagate.v1.InstanceService/ListInstances
done_with "refuses with a code, a reason and the field"

for service in "" wagate.v1.EventService wagate.v1.InstanceService wagate.v1.MessageService; do
  call -d "{\"service\": \"$service\"}" "$ENDPOINT" grpc.health.v1.Health/Check
  good "health of '$service'"
  shows '"status": *"SERVING"' "health of '$service'"
done
done_with "is healthy, service by service"

call -d '{"instance": "from-grpcurl"}' "$ENDPOINT" wagate.v1.InstanceService/DeleteInstance
good "delete the instance"
refused "a deleted instance" NotFound INSTANCE_NOT_FOUND \
  -d '{"instance": "from-grpcurl"}' "$ENDPOINT" wagate.v1.InstanceService/GetInstance
done_with "deletes it again"
