#!/usr/bin/env bash
# The README's first command, as a stranger runs it: a clean clone, an empty home directory. What it
# prints in its first seconds must be what the README shows, but for times, ids and keys.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
server=""
finish() {
  local status=$?
  if [ -n "$server" ]; then
    pkill -TERM -P "$server" 2>/dev/null || true
    kill -TERM "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  rm -rf "$work"
  exit "$status"
}
trap finish EXIT

fail() { printf '!! %s\n' "$*" >&2; exit 1; }

# The block of the README that follows a line ```KIND, the Nth of its kind.
block() {
  awk -v kind="$1" -v wanted="$2" '
    $0 == "```" && inside { inside = 0; next }
    inside && seen == wanted { print }
    $0 == "```" kind { inside = 1; seen++ }
  ' README.md
}

# What differs from run to run. The statuses of a message come in the order of the network.
settled() {
  sed -E \
    -e '/message\.status/d' -e '/^ *(Finished|Running|Compiling|Downloaded|Downloading|Updating)/d' \
    -e 's/[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z/TIME/g' \
    -e 's/wg_[0-9a-f]{16}_[A-Za-z0-9_-]+/KEY/g' -e 's/wg_…/KEY/g' \
    -e 's/3EB0[0-9A-F]+/ID/g' -e 's/[^ ]*target\/[a-z]+\/wagate/wagate/g' -e 's/ +$//' |
    grep -v '^$' | sort
}

command=$(block sh 1 | head -n1)
[ "$command" = "cargo run --release -- sandbox" ] || fail "the README's first command is now: $command"
block text 1 | settled >"$work/shown"
[ -s "$work/shown" ] || fail "the README shows no output"

git clone --quiet . "$work/clone"
mkdir "$work/home"
export CARGO_HOME="${CARGO_HOME:-$HOME/.cargo}" RUSTUP_HOME="${RUSTUP_HOME:-$HOME/.rustup}"
# The build is the slow part and knows nothing of the home directory: it may use what is there.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
(cd "$work/clone" && HOME="$work/home" cargo build --quiet --locked --release)
find "$CARGO_TARGET_DIR" -name whatsapp.local.desc -exec touch -d 2000-01-01 {} +

(cd "$work/clone" && HOME="$work/home" exec $command) >"$work/printed" 2>&1 &
server=$!
began=$SECONDS
until grep -q 'grpcurl -plaintext' "$work/printed"; do
  kill -0 "$server" 2>/dev/null || { cat "$work/printed" >&2; fail "it ended"; }
  [ $((SECONDS - began)) -lt 120 ] || { cat "$work/printed" >&2; fail "no conversation within two minutes"; }
  sleep 0.2
done
settled <"$work/printed" >"$work/printed.settled"
diff -u "$work/shown" "$work/printed.settled" || fail "the README shows something else"
echo "   the README shows what it prints"
