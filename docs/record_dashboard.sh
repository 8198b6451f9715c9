#!/usr/bin/env bash
# Record what `clippy train` looks like into docs/recordings: the dashboard in a real terminal (tmux) of 80 and of 160
# columns, and the plain lines of a run without one. About four minutes; needs tmux.
set -euo pipefail
cd "$(dirname "$0")/recordings"
runs=$(mktemp -d)
trap 'tmux kill-server 2>/dev/null || true; rm -rf "$runs"' EXIT
train="clippy train --gpus 0 --epochs 2 --eval-every 104 --out $runs"

record() { # COLUMNS ROWS
  tmux new-session -d -s "d$1" -x "$1" -y "$2" "$train --name shapes-$1; sleep 60"
  until [ "$(cat "$runs/shapes-$1/metrics.jsonl" 2>/dev/null | wc -l)" -ge 540 ]; do sleep 0.5; done
  tmux capture-pane -p -t "d$1" | sed -e 's/[[:space:]]*$//' -e "s#$runs#runs#g" > "dashboard-$1.txt"
  tmux kill-session -t "d$1"
}

record 80 30
record 160 45
$train --name plain 2>&1 | sed "s#$runs#runs#g" > plain.txt
