# The README's example: counts the words of three licences and writes a report.
# usage: sh wordcount.sh DIR [LICENSES]
# What it makes in DIR: counts.txt, ranked.txt, summary.txt and, from these, report.txt.
set -eu
LC_ALL=C
export LC_ALL

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    echo "usage: sh wordcount.sh DIR [LICENSES]" >&2
    exit 2
fi
licenses=${2:-/usr/share/common-licenses}
for name in GPL-2 GPL-3 Apache-2.0; do
    # A symlink would lead to a file of another name, and the lineage would no longer be the same everywhere.
    if [ ! -f "$licenses/$name" ] || [ -h "$licenses/$name" ]; then
        echo "wordcount.sh: $licenses/$name is not a regular file" >&2
        exit 1
    fi
done

# Absolute names without a subshell, so that every process here is a step of the workflow.
start=$PWD
case $licenses in /*) ;; *) licenses=$start/$licenses ;; esac
case $0 in */*) cd "${0%/*}" ;; esac
rank=$PWD/rank.py
cd "$start"
mkdir -p "$1"
cd "$1"

# 1. A pipeline, and a result that takes its name when it is whole.
cat "$licenses/GPL-2" "$licenses/GPL-3" "$licenses/Apache-2.0" |
    tr 'A-Z' 'a-z' | tr -cs 'a-z' '\n' | sort | uniq -c > counts.tmp
mv counts.tmp counts.txt

# 2. A step in another language.
python3 "$rank" counts.txt ranked.txt

# 3. A file that a second program appends to.
sort -rn counts.txt | head -n 5 > summary.txt
wc -l < counts.txt >> summary.txt

# 4. A temporary file: made, read and removed.
grep -c license counts.txt > n.tmp || true
cat n.tmp >> summary.txt
rm n.tmp

# 5. The result.
python3 "$rank" --merge ranked.txt summary.txt report.txt
