#!/bin/sh
# Fuzzes what strangers send, each target for a time: tools/fuzz.sh 30s [TARGET…]
set -e
time=$1
shift
grep -rlE '^func Fuzz[A-Z]' --include='*_test.go' . | sort | while read -r file; do
	for target in $(sed -n 's/^func \(Fuzz[A-Za-z]*\)(.*/\1/p' "$file"); do
		case " $* " in
		"  " | *" $target "*) echo "$target in $(dirname "$file")" ;;
		*) continue ;;
		esac
		${GO:-go} test "$(dirname "$file")" -run '^$' -fuzz "^$target\$" -fuzztime "$time" </dev/null
	done
done
