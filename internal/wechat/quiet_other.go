//go:build !unix

package wechat

// quiet cannot look at a socket here, and trusts it.
func quiet(uintptr) bool { return true }
