#!/bin/sh
# Checks the proof of a day with sha256sum and unzip alone: every file against SHA256SUMS, that no
# other file lies beside them and, with the proof of the day before, that this one names it.
#
#   unzip proof-2026-11-20.zip && sh 2026-11-20/verify.sh [proof-2026-11-19.zip]
before=$1
case $before in
'' | /*) ;;
*) before=$PWD/$before ;;
esac
cd "$(dirname "$0")" || exit 1
sha256sum -c SHA256SUMS || { echo "WRONG: a file is not as it was"; exit 1; }
lines='*
*'
for f in * .*; do
	case $f in
	. | .. | SHA256SUMS) continue ;;
	$lines) echo "WRONG: $f was not there"; exit 1 ;;
	esac
	[ -e "$f" ] || [ -L "$f" ] || continue # a pattern that nothing fits
	cut -c67- SHA256SUMS | grep -Fqx -- "$f" || { echo "WRONG: $f was not there"; exit 1; }
done
if [ -n "$before" ]; then
	sum=$(unzip -p "$before" '*/SHA256SUMS' | sha256sum | cut -d' ' -f1)
	grep -q "^previous_sha256 $sum\$" chain.txt || { echo "WRONG: it does not name $before"; exit 1; }
	echo "$before: named by this day"
fi
echo "SHA256SUMS of this day: $(sha256sum SHA256SUMS | cut -d' ' -f1)"
