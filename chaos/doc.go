// Command chaos is the fault suite: real Redis and Postgres servers, real worker processes and a simulated WeChat
// that writes down what it accepts before it decides whether to answer. A producer keeps a list of every message
// that it was told is accepted; faults strike; and at the end three books are compared: the producer's, the
// simulator's and the ledger.
//
//	(a) every accepted message has exactly one terminal outcome
//	(b) the simulator accepted no message more than once
//	(c) what is sent was accepted by the simulator; what failed, was skipped or expired was not
//	(d) unknown only where a fault struck between a message's claim and its end
//	(e) no quota, pace, window or cap was overrun in the simulator's own count
//
// With --subject naive the same faults strike what one would build in an afternoon, for comparison.
package main
