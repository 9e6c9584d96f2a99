// Package devstack gives the demo, the benchmark and the tests a Redis and a Postgres of their own:
// real servers on free loopback ports, in a temporary directory, from the programs found on the machine.
//
// The one fact to know: where HONGYAN_REDIS_URL or HONGYAN_DATABASE_URL is set, that server is used and
// nothing is started, so there is nothing to stop or freeze either ([Options.Private] says otherwise).
//
// Every private server has a random password. Anyone on the machine can reach a loopback port, and
// whoever may talk to Redis or Postgres as its owner may run programs as that owner.
//
// On Linux the servers die with the process that started them, however it ends. A directory that such a
// process left behind is removed by the next one that starts.
//
// Production binaries link none of this package.
package devstack
