// Package gate answers one question for every message: may this account call this API now?
//
// A gate is open, closed until a time (a daily quota is spent), or broken: WeChat refuses the account itself
// (wrong secret, IP not whitelisted, no permission), and only a person can mend that. The truth is a row in
// Postgres, so that it outlives any loss of Redis and is the same for all pods; each pod mirrors the few rows
// that are not open, by polling every [Every], and looks again before it refuses on an old mirror.
//
// A broken gate is probed once a minute, by one pod: the account's by asking for its quota, which needs a
// token; that of one API by letting a single parked message through. The first call that WeChat does not
// refuse for the account's sake opens it.
package gate
