"""The Python step of wordcount.sh.

rank.py COUNTS RANKED                    writes the 20 most frequent words
rank.py --merge RANKED SUMMARY REPORT    writes both, one after the other
"""

import sys


def rank(counts, ranked):
    """Reads lines of `uniq -c`; equal counts are ordered by word."""
    with open(counts, encoding="ascii") as lines:
        pairs = [line.split() for line in lines]
    # The text before the first word makes one line without a word.
    words = sorted((-int(pair[0]), pair[1]) for pair in pairs if len(pair) == 2)
    with open(ranked, "w", encoding="ascii") as out:
        for count, word in words[:20]:
            out.write(f"{-count:7} {word}\n")


def merge(ranked, summary, report):
    """Writes the two files under their headings."""
    with open(ranked, encoding="ascii") as first, open(summary, encoding="ascii") as second:
        text = f"Most frequent words\n{first.read()}\nSummary\n{second.read()}"
    with open(report, "w", encoding="ascii") as out:
        out.write(text)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--merge", ranked, summary, report]:
            merge(ranked, summary, report)
        case [counts, ranked]:
            rank(counts, ranked)
        case _:
            sys.exit(__doc__)
