package main

import (
	"strings"
	"testing"
)

// TestFaultSuite is the short form: a part of the scenarios, with fewer messages, side by side.
func TestFaultSuite(t *testing.T) {
	var only []string
	for _, s := range scenarios {
		if s.brief {
			only = append(only, s.name)
		}
	}
	var out, progress strings.Builder
	err := run(t.Context(), flags{Only: only, Messages: 1200, Parallel: len(only), Subject: hongyan}, &out, &progress)
	t.Logf("%s%s", progress.String(), out.String())
	if err != nil {
		t.Error(err)
	}
}
