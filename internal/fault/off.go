//go:build !chaos

package fault

// Compiled says whether this program can be told to fail.
const Compiled = false

// At does nothing.
func At(Point, string) {}

// Has says that the safety is there.
func Has(Safety) bool { return true }
