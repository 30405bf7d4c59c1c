#!/usr/bin/env bash
# Ask a running server two questions, one in one piece and one streamed, and show replies and token usage.
#
#   server/test-claude.sh ORG_ID USER_ID
#
# BASE_URL names another server than http://localhost:3000, WORKBENCH_KEY is a key (wb_…) where the server wants one; it
# needs the scope act-as-user for a user other than its own. Exit code 0 when both replies came whole, else 1.
set -uo pipefail

if [ $# -ne 2 ]; then
    echo "usage: $0 ORG_ID USER_ID" >&2
    exit 1
fi
base=${BASE_URL:-http://localhost:3000}
python=$(command -v python3 || command -v python) || { echo "python is needed to read JSON" >&2; exit 1; }

authorization() { # not as an argument: those are shown to everybody on this machine
    [ -z "${WORKBENCH_KEY:-}" ] || printf 'header = "Authorization: Bearer %s"\n' "$WORKBENCH_KEY"
}
ask() {
    curl -K <(authorization) -sS -N -X POST "$base$1" -H "Content-Type: application/json" \
        -H "x-org-id: $org_id" -H "x-user-id: $user_id" -d "$2"
}
org_id=$1
user_id=$2

echo "Testing $base with"
echo "  ORG_ID:  $org_id"
echo "  USER_ID: $user_id"
curl -s -o /dev/null "$base/healthz" || { echo "$base cannot be reached; start it with: make serve" >&2; exit 1; }

echo
echo "1. In one piece: What is 2+2?"
ask /chat '{"message": "What is 2+2?"}' | "$python" -c '
import json, sys

reply = json.load(sys.stdin)
if "error" in reply:
    sys.exit("   " + reply["error"] + ": " + reply["message"])
usage = reply["usage"]
print("   " + reply["reply"])
print("   model:", reply["model"])
print("   Token usage: input={input_tokens} output={output_tokens}".format(**usage))
' || exit 1

echo
echo "2. Streamed: Write a haiku about coding"
ask /chat/stream '{"message": "Write a haiku about coding"}' | "$python" -c '
import json, sys

last = {}
for line in sys.stdin:
    if line.startswith("{"):  # a problem, said before the first event
        line = "data: " + line
    if line.startswith("data: "):
        last = json.loads(line[6:])
        print(last.get("token", ""), end="", flush=True)
print()
if "error" in last:
    sys.exit("   " + last["error"] + ": " + last["message"])
if not last.get("done"):
    sys.exit("   the stream broke off")
print("   Token usage: input={input_tokens} output={output_tokens}".format(**last["usage"]))
' || exit 1

echo
echo "Both replies came whole."
