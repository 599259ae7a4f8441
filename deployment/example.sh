#!/bin/sh
# The README's example: traces the word-frequency pipeline and prints the lineage of its result.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
flowcept=${FLOWCEPT:-$here/target/debug/flowcept}
work=${1:-$(mktemp -d)}
mkdir -p "$work"
FLOWCEPT_STORE=$work/store
export FLOWCEPT_STORE
"$flowcept" run --name wordcount -- sh "$here/tests/programs/wordcount.sh" "$work/data"
"$flowcept" lineage "$work/data/report.txt"
