// Command bench measures Hongyan end to end, in one run, beside what bounds it and what it replaces:
//
//   - the limit: keep-alive senders and rows by COPY, with no queue, no claim and no limits to keep, with
//     the worker's own HTTP client, with net/http and with the leanest there is (fasthttp);
//   - naive: what one would build in an afternoon: asynq, one task a message, one INSERT an outcome, a limiter in
//     the process;
//   - Hongyan, with all its guarantees on.
//
// Runs are interleaved and each figure is the median of its rounds; ratios are of runs of the same round. The
// WeChat it talks to is a stub that answers at once or after 20 ms: it measures us, not the simulator.
package main
