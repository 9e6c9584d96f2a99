#!/bin/sh
# Prints -race where the race detector works on this machine: it needs cgo, a C compiler and one of a few
# platforms. Elsewhere prints nothing, and says why the tests run without it.
if reason=$(go test -race -run '^$' ./outcome 2>&1); then
	echo -race
else
	echo "tests run without the race detector, which does not work here: $reason" >&2
fi
