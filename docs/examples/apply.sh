#!/bin/sh
# Apply for a coupon with curl, and repeat for as long as repeating can help.
#   API=http://127.0.0.1:8000/api/v1 TOKEN=... apply.sh CAMPAIGN USER
set -eu
campaign=$1 user=$2
headers=$(mktemp) body=$(mktemp)
trap 'rm -f -- "$headers" "$body"' EXIT

attempt=1
while [ "$attempt" -le 60 ]; do
    # 000 stands for a time-out or a broken connection: the place may have been taken, the repeat tells
    status=$(curl -sS -m 5 -X POST "$API/campaigns/$campaign/apply" \
        -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \
        -d "{\"user_id\":\"$user\"}" -D "$headers" -o "$body" -w '%{http_code}') || status=000
    wait=$(sed -n 's/^[Rr]etry-[Aa]fter: *\([0-9]*\).*/\1/p' "$headers")
    case $status in
        200 | 202) cat "$body"; echo; exit 0 ;;
        429 | 503 | 000) ;;
        *) # whatever says when to come back, not open yet or paused, is not the last word
            if [ -z "$wait" ]; then cat "$body" >&2; echo >&2; exit 1; fi ;;
    esac
    sleep "${wait:-1}"
    attempt=$((attempt + 1))
done
echo "no answer after $((attempt - 1)) attempts" >&2
exit 2
